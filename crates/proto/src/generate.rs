//! Turns `proto/` into the checked-in Rust. Shared by the example `generate` and by the test that compares.
//!
//! Invariant: needs no protoc and no network; the same input gives the same bytes.

use std::path::{Path, PathBuf};

/// Generates everything into `out`, and the descriptor set beside it.
pub(crate) fn generate(out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    // Comments stay in the .proto files: in the descriptors they would only be shipped, and printed as documentation tests.
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(false)
        .open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    std::fs::File::create(out.join("descriptors.bin"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &compiler.encode_file_descriptor_set()))?;
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .codec_path("crate::ExactCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
