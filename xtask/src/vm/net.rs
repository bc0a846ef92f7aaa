//! Brings up the loopback interface of the virtual machine; nothing else there does.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::{io, net};

/// Brings it up; any socket works for the request.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("the lowest bit");
    // SAFETY: the request is a local variable, and its name ends with a NUL.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
