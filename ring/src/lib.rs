//! mapring
