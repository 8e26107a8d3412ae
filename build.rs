//! Validates every shader and reflects its interface, so that a broken shader breaks the build and Rust and WGSL
//! cannot drift apart.
//!
//! Writes `shaders.rs`: for each file of `shaders/` its source (with `common.wgsl` in front), entry points, storage
//! bindings by name, members of its `Params` block with their offsets, and pipeline constants.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, StructMember, TypeInner};

fn main() {
    println!("cargo::rerun-if-changed=shaders");
    let common = read(Path::new("shaders/common.wgsl"));
    let mut files: Vec<_> = fs::read_dir("shaders").expect("shaders/ is readable").map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "wgsl") && !f.ends_with("common.wgsl"));
    files.sort();
    let mut text = String::from("pub(crate) static SHADERS: &[Shader] = &[\n");
    for file in &files {
        let source = format!("{common}\n{}", read(file));
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| fail(file, &common, &e.emit_to_string_with_path(&source, &file.to_string_lossy())));
        let info = Validator::new(ValidationFlags::all(), Capabilities::default())
            .validate(&module)
            .unwrap_or_else(|e| fail(file, &common, &e.emit_to_string_with_path(&source, &file.to_string_lossy())));
        describe(&mut text, &file.file_stem().unwrap().to_string_lossy(), &source, &module, &info);
    }
    text.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("shaders.rs"), text).expect("OUT_DIR is writable");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn fail(file: &Path, common: &str, message: &str) -> ! {
    let lines = common.lines().count() + 1;
    panic!("{} does not compile (line numbers count the {lines} lines of common.wgsl too):\n{message}", file.display());
}

fn describe(text: &mut String, name: &str, source: &str, module: &Module, info: &ModuleInfo) {
    let constants: Vec<_> = module.overrides.iter().map(|(_, o)| o.name.as_deref().expect("named override")).collect();
    let members: Vec<_> = params(name, module)
        .iter()
        .map(|member| (member.name.as_deref().expect("named member"), member.offset))
        .collect();
    let _ = writeln!(
        text,
        "Shader {{ name: {name:?}, source: {source:?}, constants: &{constants:?}, params: &{members:?},"
    );
    text.push_str("entry_points: &[");
    for (index, entry) in module.entry_points.iter().enumerate() {
        // Only what the entry point can reach counts against the adapter's limit on storage buffers.
        let used = info.get_entry_point(index);
        let mut bindings = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if let (AddressSpace::Storage { access }, false) = (variable.space, used[handle].is_empty()) {
                let at = variable.binding.expect("storage is bound");
                assert_eq!(at.group, 1, "{name}: tensors are bound in group 1");
                bindings.push((at.binding, variable.name.as_deref().expect("named"), access));
            }
        }
        let _ = writeln!(text, "EntryPoint {{ name: {:?}, bindings: &[", entry.name);
        for (index, binding, access) in bindings {
            let writable = access.contains(StorageAccess::STORE);
            let _ = writeln!(text, "Binding {{ name: {binding:?}, index: {index}, writable: {writable} }},");
        }
        text.push_str("] },\n");
    }
    text.push_str("] },\n");
}

/// Members of the `Params` block: scalars only, so that packing them needs nothing but their offsets.
fn params<'a>(name: &str, module: &'a Module) -> &'a [StructMember] {
    let (_, block) = module
        .global_variables
        .iter()
        .find(|(_, v)| v.space == AddressSpace::Uniform && v.binding.is_some_and(|b| (b.group, b.binding) == (1, 0)))
        .unwrap_or_else(|| panic!("{name}: a uniform Params block at group 1, binding 0"));
    let TypeInner::Struct { members, .. } = &module.types[block.ty].inner else {
        panic!("{name}: Params must be a struct");
    };
    for member in members {
        let scalar = matches!(module.types[member.ty].inner, TypeInner::Scalar(s) if s.width == 4);
        assert!(scalar, "{name}: Params.{:?} must be a 32-bit scalar", member.name);
    }
    members
}
