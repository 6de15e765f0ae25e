//! Durable files: temp, fsync, rename, fsync directory.
