//! mapring-benches
