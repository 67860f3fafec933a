//! Tells linkers that Python's symbols may stay open until the module is loaded.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
