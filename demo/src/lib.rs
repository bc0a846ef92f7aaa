//! mapring-demo
