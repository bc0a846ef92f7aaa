//! mapring-kernel-tests
