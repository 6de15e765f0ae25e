//! `landfast`: everything a person types.
fn main() {}
