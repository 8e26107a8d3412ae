//! Every shader with every combination of pipeline constants is valid and can be written for Vulkan, Metal and DX12.

use ldfa_gpu::gpu::shaders::{self, Ability, EntryPoint, Shader};
use ldfa_gpu::ops::MAX_REPLICAS;
use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, hlsl, msl, spv};
use naga::compact::{KeepUnused, compact};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, TypeInner};

/// WebGPU's guarantees.
const STORAGE_BUFFERS: usize = 8;
const WORKGROUP_BYTES: u32 = 16_384;
const INVOCATIONS: u32 = 256;
const INVOCATIONS_BY_AXIS: [u32; 3] = [256, 256, 64];

fn validate(shader: &Shader, module: &Module) -> Result<ModuleInfo, String> {
    // No capability but the one that the shader declares.
    let capabilities = match shader.ability {
        Ability::Core => Capabilities::empty(),
        Ability::Subgroups => Capabilities::SUBGROUP,
        Ability::Half => Capabilities::SHADER_FLOAT16,
        Ability::Matrices => Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX,
    };
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(module).map_err(|e| format!("{e:?}"))
}

fn parse(shader: &Shader) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(shader.source).unwrap_or_else(|e| panic!("{}: {e:?}", shader.name));
    let info = validate(shader, &module).unwrap_or_else(|e| panic!("{}: {e}", shader.name));
    (module, info)
}

/// The values that the lowering gives a pipeline constant.
fn values(shader: &Shader, constant: &str, is_flag: bool) -> &'static [f64] {
    match constant {
        _ if is_flag => &[0.0, 1.0],
        // none, relu, gelu, tanh
        "activation" | "gate" | "f" => &[0.0, 1.0, 2.0, 3.0],
        // rnn, gru, lstm
        "cell" => &[0.0, 1.0, 2.0],
        // forward, for the input, for the weight
        "convolution" => &[1.0, 2.0, 3.0],
        // of a subgroup
        "lanes" => &[8.0, 32.0, 64.0],
        other => panic!("{}: which values does the lowering give the constant {other}?", shader.name),
    }
}

/// Constants that an entry point can reach, each with its values.
fn constants(shader: &Shader, module: &Module, entry: &EntryPoint) -> Vec<(String, &'static [f64])> {
    let mut own = module.clone();
    own.entry_points.retain(|e| e.name == entry.name);
    compact(&mut own, KeepUnused::No);
    let constant = |(_, constant): (_, &naga::Override)| {
        let name = constant.name.clone().unwrap();
        let is_flag = own.types[constant.ty].inner.scalar() == Some(naga::Scalar::BOOL);
        let values = values(shader, &name, is_flag);
        (name, values)
    };
    own.overrides.iter().map(constant).collect()
}

/// All combinations of an entry point of a few hundred; of more, each constant alone and all of them at once.
fn combinations(constants: &[(String, &'static [f64])]) -> Vec<PipelineConstants> {
    const ALL: usize = 32;
    let count: usize = constants.iter().map(|(_, values)| values.len()).product();
    let mut all = vec![PipelineConstants::default()];
    if count > ALL {
        for (name, values) in constants {
            all.extend(values[1..].iter().map(|&value| [(name.clone(), value)].into_iter().collect()));
        }
        for pick in [1, 2] {
            let last = |values: &[f64]| values[pick.min(values.len() - 1)];
            all.push(constants.iter().map(|(name, values)| (name.clone(), last(values))).collect());
        }
        return all;
    }
    for (name, values) in constants {
        let with = |so_far: &PipelineConstants, value: f64| {
            let mut with = so_far.clone();
            with.insert(name.clone(), value);
            with
        };
        all = all.iter().flat_map(|so_far| values.iter().map(move |&value| with(so_far, value))).collect();
    }
    all
}

fn write_spirv(module: &Module, info: &ModuleInfo, entry: &str) -> Result<usize, String> {
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.to_owned() };
    let words = spv::write_vec(module, info, &spv::Options::default(), Some(&pipeline)).map_err(|e| e.to_string())?;
    Ok(words.len())
}

fn write_metal(module: &Module, info: &ModuleInfo, entry: &str) -> Result<usize, String> {
    let entry_point = Some((ShaderStage::Compute, entry.to_owned()));
    let pipeline = msl::PipelineOptions { entry_point, ..Default::default() };
    let (text, written) =
        msl::write_string(module, info, &msl::Options::default(), &pipeline).map_err(|e| e.to_string())?;
    written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text.len())
}

fn write_hlsl(module: &Module, info: &ModuleInfo, entry: &str) -> Result<usize, String> {
    let mut text = String::new();
    let (options, entry_point) = (hlsl::Options::default(), Some((ShaderStage::Compute, entry.to_owned())));
    let pipeline = hlsl::PipelineOptions { entry_point };
    let written =
        hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text.len())
}

#[test]
fn every_combination_of_constants_can_be_written_for_every_backend() {
    let mut written = 0;
    for shader in shaders::all() {
        let (module, info) = parse(shader);
        for entry in shader.entry_points {
            let constants = constants(shader, &module, entry);
            for combination in combinations(&constants) {
                let case = format!("{}::{} with {combination:?}", shader.name, entry.name);
                let fail = |what: &str, error: String| -> ! { panic!("{case}: {what}: {error}") };
                let stage = Some((ShaderStage::Compute, entry.name));
                let (module, info) = process_overrides(&module, &info, stage, &combination)
                    .unwrap_or_else(|e| fail("constants", e.to_string()));
                validate(shader, &module).unwrap_or_else(|e| fail("validation", e));
                let backends = [
                    ("SPIR-V", write_spirv as fn(&Module, &ModuleInfo, &str) -> Result<usize, String>),
                    ("MSL", write_metal),
                    ("HLSL", write_hlsl),
                ];
                // naga writes matrix units for Vulkan and Metal only.
                let backends = if shader.ability == Ability::Matrices { &backends[..1] } else { &backends[..] };
                for (backend, write) in backends {
                    let length = write(&module, &info, entry.name).unwrap_or_else(|e| fail(backend, e));
                    assert!(length > 100, "{case}: {backend} is empty");
                }
                written += 1;
            }
        }
    }
    println!("{written} pipelines written three times");
    // Products alone: 29 kernels, each with eight flags and two constants of three values.
    assert!(written >= 29 * (1 + 7 + 4 + 2), "the constants were not combined");
}

#[test]
fn an_unknown_constant_is_refused() {
    let shader = shaders::all().iter().find(|s| s.name == "gemm").unwrap();
    let (module, info) = parse(shader);
    let mut unknown = PipelineConstants::default();
    unknown.insert("activtaion".into(), 2.0);
    assert!(process_overrides(&module, &info, Some((ShaderStage::Compute, "tile_64x64")), &unknown).is_err());
}

#[test]
fn entry_points_stay_within_what_webgpu_guarantees() {
    for shader in shaders::all() {
        let (module, info) = parse(shader);
        assert_eq!(module.entry_points.len(), shader.entry_points.len());
        for (index, entry) in module.entry_points.iter().enumerate() {
            let name = format!("{}::{}", shader.name, entry.name);
            let reflected = shader.entry_points.iter().find(|e| e.name == entry.name).unwrap();
            let used = info.get_entry_point(index);
            let variables = || module.global_variables.iter().filter(|(handle, _)| !used[*handle].is_empty());
            let storage = variables().filter(|(_, v)| matches!(v.space, AddressSpace::Storage { .. })).count();
            assert_eq!(storage, reflected.bindings.len(), "{name}: bindings as reflected");
            assert!(storage <= STORAGE_BUFFERS, "{name} binds {storage} storage buffers");
            let shared: u32 = variables()
                .filter(|(_, v)| v.space == AddressSpace::WorkGroup)
                .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()).next_multiple_of(16))
                .sum();
            assert!(shared <= WORKGROUP_BYTES, "{name} takes {shared} bytes of workgroup memory");
            let invocations: u32 = entry.workgroup_size.iter().product();
            assert!((1..=INVOCATIONS).contains(&invocations), "{name} has {invocations} invocations");
            for (size, limit) in entry.workgroup_size.iter().zip(INVOCATIONS_BY_AXIS) {
                assert!(*size <= limit, "{name}: workgroup size {:?}", entry.workgroup_size);
            }
        }
    }
}

/// Whether `word` stands in the text by itself.
fn mentions(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

/// Text without comments.
fn code(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_parameter_is_used_and_every_stride_belongs_to_a_tensor() {
    for shader in shaders::all() {
        let text = code(shader.source);
        assert!(!shader.params.is_empty(), "{} has no parameters", shader.name);
        for (name, _) in shader.params {
            assert!(mentions(&text, &format!("params.{name}")), "{}: Params.{name} is not used", shader.name);
            if let Some(operand) = name.strip_prefix("stride_") {
                let bound = shader.entry_points.iter().flat_map(|e| e.bindings).any(|b| b.name == operand);
                assert!(bound, "{}: Params.{name} belongs to no tensor", shader.name);
            }
        }
        for constant in shader.constants {
            let uses = text.lines().filter(|l| mentions(l, constant) && !l.starts_with("override")).count();
            assert!(uses > 0, "{}: the constant {constant} is not used", shader.name);
        }
    }
}

#[test]
fn mentions_finds_whole_words_only() {
    assert!(mentions("a + params.rows;", "params.rows"));
    assert!(!mentions("params.rows_each", "params.rows"));
    assert!(!mentions("my_params.rows", "params.rows"));
    assert_eq!(code("a; // b\n// c"), "a; \n");
}

/// Every tensor that a kernel reads through a shared replica axis needs its stride.
#[test]
fn every_tensor_of_replicas_has_a_stride() {
    // The data set is shared by all replicas.
    let shared = ["images", "classes"];
    for shader in shaders::all() {
        for binding in shader.entry_points.iter().flat_map(|e| e.bindings).filter(|b| !shared.contains(&b.name)) {
            let stride = format!("stride_{}", binding.name);
            assert!(shader.params.iter().any(|(name, _)| *name == stride), "{}: no {stride}", shader.name);
        }
    }
}

/// The words that the executor packs: header, two groups of four, replicas of eight.
#[test]
fn the_steps_block_is_laid_out_as_the_executor_packs_it() {
    assert_eq!(MAX_REPLICAS, 64);
    for shader in shaders::all() {
        let (module, _) = parse(shader);
        let (_, block) = module
            .global_variables
            .iter()
            .find(|(_, v)| v.binding.is_some_and(|b| (b.group, b.binding) == (0, 0)))
            .unwrap_or_else(|| panic!("{}: the step's block", shader.name));
        assert_eq!(block.space, AddressSpace::Uniform);
        let layout = |ty| {
            let TypeInner::Struct { members, span } = &module.types[ty].inner else { panic!("a struct") };
            let named = |m: &naga::StructMember| (m.name.clone().unwrap(), m.offset, m.ty);
            (members.iter().map(named).collect::<Vec<_>>(), *span)
        };
        let (members, span) = layout(block.ty);
        let offsets: Vec<_> = members.iter().map(|(name, offset, _)| (name.as_str(), *offset)).collect();
        assert_eq!(span, 2096);
        assert_eq!(
            offsets,
            [("step", 0), ("cursor", 4), ("active_rows", 8), ("unused", 12), ("groups", 16), ("replicas", 48)]
        );
        let TypeInner::Array { base, size, stride } = module.types[members[5].2].inner else { panic!("an array") };
        assert_eq!((size, stride), (naga::ArraySize::Constant(64.try_into().unwrap()), 32));
        let TypeInner::Array { size, stride, .. } = module.types[members[4].2].inner else { panic!("an array") };
        assert_eq!((size, stride), (naga::ArraySize::Constant(2.try_into().unwrap()), 16));
        let (members, span) = layout(base);
        assert_eq!(span, 32);
        let offsets: Vec<_> = members.iter().take(3).map(|(name, offset, _)| (name.as_str(), *offset)).collect();
        assert_eq!(offsets, [("rate", 0), ("decay", 8), ("seed", 16)]);
    }
}
