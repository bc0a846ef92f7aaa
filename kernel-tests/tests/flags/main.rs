//! Every flag that an array takes, alone and with others: what the kernel says to user space and to
//! programs, and what reading and writing through mapring does. The table in `docs/kernels.md` is made
//! here, and compared; `MAPRING_BLESS=1` writes it anew.
#![allow(missing_docs)]

mod cover;
mod facts;
mod text;


use mapring_kernel_tests::require_bpf;
use text::Table;

#[test]
fn every_flag_is_in_the_table() {
    require_bpf!();
    let table = Table::of_this_kernel();
    println!("{}", table.text());
}
