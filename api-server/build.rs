//! Packs the committed OpenAPI document: a tenth of its size, and as most callers want it.

use std::{env, fs, io, io::Write as _, path::Path};

use flate2::{Compression, GzBuilder};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=openapi.json");
    let folder = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    // Without a time in its header, so that the same document packs to the same bytes.
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
    packed.write_all(&fs::read("openapi.json")?)?;
    fs::write(Path::new(&folder).join("openapi.json.gz"), packed.finish()?)
}
