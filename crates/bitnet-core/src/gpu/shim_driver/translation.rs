//! From the text of a Metal kernel to C++ that the shim's headers complete: memory that a threadgroup shares is declared as
//! such, and a function that calls the kernel with the arguments its attributes ask for is added. Nothing else is changed.

use crate::gpu::kernel::Source;
use std::fmt::Write;

/// The C++ of a kernel.
///
/// # Errors
/// What is not understood in it.
pub(super) fn translated(source: &Source) -> Result<String, String> {
    let mut text = String::new();
    for line in source.text.lines() {
        let code = line.trim_start();
        if let Some(declared) = code.strip_prefix("threadgroup ")
            && let Some((declaration, _)) = code.split_once(';')
            && let Some((of, _)) = declaration.split_once('[')
            && !of.contains(['=', '(', '*', '&'])
        {
            let name = declared.split([' ', '[']).nth(1).unwrap_or_default();
            let _ = writeln!(text, "    SHARED({declaration}, {name})");
        } else {
            text += line;
            text.push('\n');
        }
    }
    let launcher = launcher(source)?;
    Ok(format!(
        "{text}\n#ifndef ADDRESS_SPACES\n{launcher}#endif\n"
    ))
}

/// The function that a program's user calls.
fn launcher(source: &Source) -> Result<String, String> {
    let name = source.name;
    let beginning = format!("kernel void {name}(\n");
    let rest = source.text.split_once(&beginning);
    let (_, rest) = rest.ok_or_else(|| format!("there is no kernel {name}"))?;
    let (parameters, _) = rest.split_once(")\n{").ok_or("its parameters do not end")?;
    let mut arguments = String::new();
    for line in parameters.lines() {
        // Some parameters stand under a condition.
        if line.starts_with('#') {
            let _ = writeln!(arguments, "{line}");
            continue;
        }
        let more = if line.ends_with(',') { "," } else { "" };
        let _ = writeln!(arguments, "        {}{more}", argument(line)?);
    }
    Ok(format!(
        "static void run_{name}() {{\n    {name}(\n{arguments}    );\n}}\n\
         extern \"C\" const char* run(void* const* buffers, const unsigned* groups, unsigned threads, unsigned order) {{\n    \
         return msl::run(run_{name}, buffers, groups, threads, order);\n}}\n"
    ))
}

/// What a parameter, as it is declared, is called with.
fn argument(parameter: &str) -> Result<String, String> {
    let unknown = || format!("the parameter {parameter:?} is not understood");
    let (declared, attribute) = parameter.split_once("[[").ok_or_else(unknown)?;
    let attribute = attribute.split_once("]]").ok_or_else(unknown)?.0;
    if let Some(index) = attribute.strip_prefix("buffer(") {
        let index = index.trim_end_matches(')');
        let (of, _) = declared.trim().rsplit_once(' ').ok_or_else(unknown)?;
        return match of.strip_suffix('&') {
            Some(of) => Ok(format!("*({of}*)msl::buffer({index})")),
            None => Ok(format!("({of})msl::buffer({index})")),
        };
    }
    let place = |what: &str| format!("uint3{{msl::{what}(0), msl::{what}(1), msl::{what}(2)}}");
    match attribute {
        "threadgroup_position_in_grid" => Ok(place("group")),
        "threadgroups_per_grid" => Ok(place("groups")),
        "thread_index_in_threadgroup" => Ok("msl::local()".into()),
        _ => Err(unknown()),
    }
}
