//! Generates the Connect services and messages from `proto/`. protox compiles the sources, so no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 2] = ["process.proto", "filesystem.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&descriptors, compiler.encode_file_descriptor_set())?;
    connectrpc_build::Config::new()
        .descriptor_set(descriptors)
        .files(&FILES)
        .include_file("_connectrpc.rs")
        .gate_client_feature(true)
        // They would name the descriptors, which are newer than each run that writes them: everything would be built anew each time.
        .emit_rerun_directives(false)
        .compile()?;
    for file in FILES {
        println!("cargo::rerun-if-changed=proto/{file}");
    }
    Ok(())
}
