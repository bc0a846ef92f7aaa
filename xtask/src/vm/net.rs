//! The loopback interface of the virtual machine, which nobody else brings up.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::{io, net};

/// Brings it up: any socket will do to say so.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros are a request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("the lowest bit");
    // SAFETY: the request is this call's own, its name ends with a zero.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
