//! Gives the binary an rpath to the libtorch that `torch-sys` linked against, so that it finds its
//! libraries without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // Old-style tags (RPATH) are searched for the dependencies of dependencies as well.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
    }
}
