//! Compiles the definitions of CRIU's images in pure Rust, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    prost_build::compile_fds(protox::compile(["criu.proto"], ["proto"])?)?;
    Ok(())
}
