//! Tells the programs where the libtorch is that `torch-sys` linked against, and compiles what tch does not
//! offer of it.

/// Set where a wheel is built: it goes to other machines, where that place is not there.
const WHEEL: &str = "CONVERGD_WHEEL";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={WHEEL}");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        if std::env::var_os(WHEEL).is_none() {
            // An rpath: its libraries are found without `LD_LIBRARY_PATH`. Old-style tags (RPATH) are searched for
            // the dependencies of dependencies as well.
            println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
            println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
            println!("cargo:rustc-env=CONVERGD_LIBTORCH={directory}");
        }
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
