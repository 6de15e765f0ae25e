//! `make proto`: writes `crates/proto/src/generated/` anew from `proto/`, and adds what is new to `proto/lock.txt`.

#[path = "../src/generate.rs"]
mod generate;
#[path = "../src/lock.rs"]
mod lock;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("src/generated");
    generate::generate(&out)?;
    let set = prost_types::FileDescriptorSet::decode(&*std::fs::read(out.join("descriptors.bin"))?)?;
    let (path, now) = (root.join("../../proto/lock.txt"), lock::lines(&set));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let kept = lock::read(&text);
    let broken = lock::broken(&kept, &now);
    if !broken.is_empty() {
        return Err(format!(
            "others still say this; reserve number and name instead (docs/compatibility.md): {broken:#?}"
        )
        .into());
    }
    let mut file = std::fs::File::create(&path)?;
    std::io::Write::write_all(&mut file, lock::text(&text, &now).as_bytes())?;
    Ok(())
}
