//! Tells the programs where the libtorch is that `torch-sys` linked against, and compiles what tch does not
//! offer of it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // A wheel goes to other machines, where that place is not there.
        if std::env::var_os("CARGO_FEATURE_WHEEL").is_none() {
            // For tests, and for whoever starts `convergd-torch` by itself. As RUNPATH, `LD_LIBRARY_PATH` comes before it.
            println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
            println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
            println!("cargo:rustc-env=CONVERGD_LIBTORCH={directory}");
        }
        compile(std::path::Path::new(&directory));
    }
}

/// libtorch's headers lie beside its libraries.
fn compile(libraries: &std::path::Path) {
    const SOURCES: [&str; 2] = ["src/network/memory.cpp", "src/network/precision.cpp"];
    SOURCES.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(libraries.join("../include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .warnings(false)
        .files(SOURCES)
        .compile("convergd_libtorch");
}
