//! Thin entry point of `landfast-server`.
fn main() {}
