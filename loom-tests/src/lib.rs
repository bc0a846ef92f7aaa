//! mapring-loom-tests
