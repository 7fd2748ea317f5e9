//! Gives the binary an rpath to the libtorch that `torch-sys` linked against, so that it finds its
//! libraries without `LD_LIBRARY_PATH`, and compiles what tch does not offer of it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // Old-style tags (RPATH) are searched for the dependencies of dependencies as well.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
        println!("cargo:rustc-env=CONVERGD_LIBTORCH={directory}");
        compile(std::path::Path::new(&directory));
    }
}

/// libtorch's headers lie beside its libraries.
fn compile(libraries: &std::path::Path) {
    const SOURCE: &str = "src/network/precision.cpp";
    println!("cargo:rerun-if-changed={SOURCE}");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(libraries.join("../include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .warnings(false)
        .file(SOURCE)
        .compile("convergd_precision");
}
