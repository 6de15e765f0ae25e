//! Thin entry point of `landfast-agent`.
fn main() {}
