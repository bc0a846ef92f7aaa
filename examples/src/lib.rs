//! mapring-examples
