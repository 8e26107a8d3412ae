//! Expands every shader, validates it and reflects its interface, so that a broken shader breaks the build and Rust
//! and WGSL cannot drift apart.
//!
//! A shader is a template: lines that begin with `//%` are statements of Jinja, which include shared files and repeat
//! what differs between the sizes of a tile only in its number of named accumulators. Writes `shaders.rs`: for each
//! file of `shaders/` its expanded source, what a device must be able to do, entry points, storage bindings by name,
//! members of its `Params` block with their offsets, and pipeline constants. The expanded sources lie beside it.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, path_loader};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Handle, Module, Scalar, StorageAccess, StructMember, Type, TypeInner};

/// What a shader may need beyond WebGPU's core, by the names that `gpu::shaders` gives it.
const ABILITIES: [(&str, Capabilities); 4] = [
    ("Core", Capabilities::empty()),
    ("Subgroups", Capabilities::SUBGROUP),
    ("Half", Capabilities::SHADER_FLOAT16),
    ("Matrices", Capabilities::SHADER_FLOAT16.union(Capabilities::SUBGROUP).union(Capabilities::COOPERATIVE_MATRIX)),
];

fn main() {
    println!("cargo::rerun-if-changed=shaders");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let templates = templates();
    let mut files: Vec<_> = fs::read_dir("shaders").expect("shaders/ is readable").map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "wgsl"));
    files.sort();
    let mut text = String::from("pub(crate) static SHADERS: &[Shader] = &[\n");
    for file in &files {
        let source = expand(&templates, file);
        let expanded = Path::new(&out).join(file.file_name().expect("a file"));
        fs::write(&expanded, &source).expect("OUT_DIR is writable");
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| fail(file, &e.emit_to_string_with_path(&source, &expanded.to_string_lossy())));
        let (ability, info) = validate(file, &expanded, &source, &module);
        describe(&mut text, &file.file_stem().unwrap().to_string_lossy(), ability, &source, &module, &info);
    }
    text.push_str("];\n");
    fs::write(Path::new(&out).join("shaders.rs"), text).expect("OUT_DIR is writable");
}

fn templates() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_loader(path_loader("shaders/include"));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .line_statement_prefix("//%")
        .keep_trailing_newline(true)
        .build()
        .expect("a prefix of its own");
    environment.set_syntax(syntax);
    environment
}

fn expand(templates: &Environment<'_>, file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    templates.render_named_str(&file.to_string_lossy(), &text, ()).unwrap_or_else(|e| {
        let mut message = format!("{e:#}");
        let mut cause = std::error::Error::source(&e);
        while let Some(e) = cause {
            let _ = write!(message, "\ncaused by {e:#}");
            cause = e.source();
        }
        panic!("{message}")
    })
}

/// The least that a device must be able to do, and the analysis of the module.
fn validate(file: &Path, expanded: &Path, source: &str, module: &Module) -> (&'static str, ModuleInfo) {
    let mut refusal = None;
    for (ability, capabilities) in ABILITIES {
        match Validator::new(ValidationFlags::all(), capabilities).validate(module) {
            Ok(info) => return (ability, info),
            Err(e) => refusal = refusal.or(Some(e)),
        }
    }
    let refusal = refusal.expect("one of the attempts failed");
    fail(file, &refusal.emit_to_string_with_path(source, &expanded.to_string_lossy()))
}

fn fail(file: &Path, message: &str) -> ! {
    panic!("{} does not compile (lines are those of the expanded file):\n{message}", file.display());
}

fn describe(text: &mut String, name: &str, ability: &str, source: &str, module: &Module, info: &ModuleInfo) {
    let constants: Vec<_> = module.overrides.iter().map(|(_, o)| o.name.as_deref().expect("named override")).collect();
    let members: Vec<_> = params(name, module)
        .iter()
        .map(|member| (member.name.as_deref().expect("named member"), member.offset))
        .collect();
    let _ = writeln!(
        text,
        "Shader {{ name: {name:?}, source: {source:?}, ability: Ability::{ability}, constants: &{constants:?}, \
         params: &{members:?},"
    );
    text.push_str("entry_points: &[");
    for (index, entry) in module.entry_points.iter().enumerate() {
        // Only what the entry point can reach counts against the adapter's limit on storage buffers.
        let used = info.get_entry_point(index);
        let mut bindings = Vec::new();
        for (handle, global) in module.global_variables.iter() {
            if let (AddressSpace::Storage { access }, false) = (global.space, used[handle].is_empty()) {
                let at = global.binding.expect("storage is bound");
                assert_eq!(at.group, 1, "{name}: tensors are bound in group 1");
                // A kernel that takes four neighbours at once sees the tensor under another type.
                let variable = global.name.as_deref().expect("named");
                let whole = variable.strip_suffix("_quads");
                let elements = elements(name, module, global.ty);
                bindings.push((at.binding, whole.unwrap_or(variable), access, whole.is_some(), elements));
            }
        }
        let _ = writeln!(text, "EntryPoint {{ name: {:?}, bindings: &[", entry.name);
        for (index, binding, access, quads, elements) in bindings {
            let writable = access.contains(StorageAccess::STORE);
            let _ = writeln!(
                text,
                "Binding {{ name: {binding:?}, index: {index}, writable: {writable}, quads: {quads}, elements: Dtype::{elements} }},"
            );
        }
        text.push_str("] },\n");
    }
    text.push_str("] },\n");
}

/// What an array in storage holds, by the name that `ops::Dtype` gives it: bytes are packed into words.
fn elements(name: &str, module: &Module, ty: Handle<Type>) -> &'static str {
    let TypeInner::Array { base, .. } = module.types[ty].inner else { panic!("{name}: storage holds arrays") };
    match module.types[base].inner {
        TypeInner::Scalar(Scalar::F32) | TypeInner::Vector { scalar: Scalar::F32, .. } => "F32",
        TypeInner::Scalar(Scalar::U32) | TypeInner::Vector { scalar: Scalar::U32, .. } => "U32",
        ref other => panic!("{name}: no tensor has elements of {other:?}"),
    }
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
