//! `make proto`: writes `crates/proto/src/generated/` anew from `proto/`.

#[path = "../src/generate.rs"]
mod generate;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    generate::generate(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated"))
}
