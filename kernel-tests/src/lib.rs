//! What the real-kernel tests share.
