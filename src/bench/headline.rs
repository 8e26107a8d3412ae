//! The numbers that the project is judged by, in one run.

use std::fmt;
use std::time::Instant;

use serde_json::{Map, Value};

use super::kernels::{Ceilings, Form, convolution, product, transport};
use super::rounds::interleave;
use super::subject::{Subject, Way, dataset};
use super::workload::Workload;
use super::{BenchError, Effort, open, realised};
use crate::data::Dataset;
use crate::gpu::{Context, DeviceChoice, Gpu};
use crate::model::{LayerSpec, Network, weighted};
use crate::ops::{Half, Pass, Phase, ReplicaStep, StepState};
use crate::plan::{Options, Plan, Variant, median};
use crate::train::config::{Config, Draft};
use crate::train::spec::network_spec;

/// The plain kernel that the chosen one is held against: 64 x 64 outputs from tiles in shared memory.
const YARDSTICK: Variant = Variant::Yardstick;

/// 784-1024-1024-1024-1024-10, ReLU, batch 512, Adam, rank 16.
const NETWORK: &str = include_str!("headline.toml");

/// Names with numbers (or text, or null), in the order of the measurement.
#[derive(Clone, Debug)]
pub struct Headline(Vec<(String, Value)>);

impl Headline {
    /// As one object.
    pub fn json(&self) -> Value {
        Value::Object(self.0.iter().cloned().collect::<Map<String, Value>>())
    }

    fn put(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }
}

impl fmt::Display for Headline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|(name, value)| match value.as_f64() {
            Some(number) if value.is_f64() => format!("{name:<52} {number:.4}"),
            _ if value.is_null() => format!("{name:<52} -"),
            _ => format!("{name:<52} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

/// What is measured, in this order: the host's part of a small step, kernels, and steps of six kinds of networks by rule.
pub const PARTS: [&str; 7] = ["small", "kernels", "mlp", "cifar10-mlp", "vgg", "vit", "gru"];

/// Measures one of the [`PARTS`], or everything, in some minutes on two cores.
///
/// Ratios of times are medians over nine interleaved rounds; ratios of operations come from [`Plan::cost`]. README.md lists
/// the names.
///
/// # Errors
/// If the device fails.
pub fn headline(device: &DeviceChoice, only: Option<&str>, effort: Effort) -> Result<Headline, BenchError> {
    let mut found = Headline(Vec::new());
    let context = first_step(device, effort, &mut found)?;
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|only| only == *part)) {
        let mut steps =
            |draft: Draft, prefix, measures| compare(&context, &draft, prefix, measures, effort, &mut found);
        match part {
            "small" => small_network(&context, effort, &mut found)?,
            "kernels" => kernels(&context, effort, &mut found)?,
            "mlp" => steps(network(effort)?, "", &BOTH)?,
            "cifar10-mlp" => steps(Draft::open(effort.pick("cifar10-mlp", "digits"))?, "cifar10_mlp_", &BOTH)?,
            "vgg" => steps(vgg(effort)?, "vgg_", &BOTH[..1])?,
            "vit" => steps(transformer(effort)?, "vit_", &BOTH[..1])?,
            _ => steps(recurrent(effort)?, "gru_", &BOTH)?,
        }
    }
    Ok(found)
}

fn vgg(effort: Effort) -> Result<Draft, BenchError> {
    let mut draft = Draft::open(effort.pick("vgg-cifar10", "lenet"))?;
    if effort == Effort::Quick {
        draft.set("train.batch", "2")?;
    }
    Ok(draft)
}

/// `mnist-rows`, a GRU through 28 steps, 256 wide.
fn recurrent(effort: Effort) -> Result<Draft, BenchError> {
    let mut draft = Draft::open(effort.pick("mnist-rows", "digits-rows"))?;
    let layers = "[{type=\"sequence\",of=\"rows\"},{type=\"recurrent\",cell=\"gru\",out=WIDTH},{type=\"last-token\"},\
                  {type=\"dense\",out=10}]";
    draft.set("model.layers", &layers.replace("WIDTH", effort.pick("256", "8")))?;
    if effort == Effort::Quick {
        draft.set("feedback.rank", "4")?;
        draft.set("train.batch", "4")?;
    }
    Ok(draft)
}

/// `vit-cifar10` with batches of 64 and the first two of its eight blocks, which are all alike: a step of two is a quarter of the
/// work of a step of eight, and the ratio between rules is nearly the same. It is the whole step otherwise, but for the
/// factorisation of the normative rule, which the preset repeats twice an epoch.
pub(super) fn transformer(effort: Effort) -> Result<Draft, BenchError> {
    let mut config = Draft::open(effort.pick("vit-cifar10", "vit-small"))?.finish()?;
    // A block is two residual layers: attention and MLP.
    let mut left = 2 * effort.pick(2, 1);
    config.model.layers.retain(|layer| {
        let is_residual = matches!(layer, LayerSpec::Residual(_));
        let stays = !is_residual || left > 0;
        left -= usize::from(is_residual && stays);
        stays
    });
    let names = weighted(&config.model.layers);
    config.feedback.ranks.retain(|name, _| names.contains(name));
    config.train.batch = effort.pick(64, 2);
    Ok(Draft::parse("the transformer of bench headline".into(), &config.to_toml()?)?)
}

fn network(effort: Effort) -> Result<Draft, BenchError> {
    let mut draft = Draft::parse("the network of bench headline".into(), NETWORK)?;
    if effort == Effort::Quick {
        draft.set("model.layers", "[{type=\"dense\",out=32},{type=\"relu\"},{type=\"dense\",out=10}]")?;
        draft.set("feedback.rank", "4")?;
        draft.set("train.batch", "16")?;
    }
    Ok(draft)
}

/// Opens the device; what it is, and how long a user waits for the first step: opening it, building the network and its
/// kernels, uploading (made-up) data, one step. Drivers with a cache on disk are faster from the second time on.
fn first_step(device: &DeviceChoice, effort: Effort, found: &mut Headline) -> Result<Context, BenchError> {
    let config = Way::Local.of(network(effort)?)?;
    let data = dataset(&config)?;
    let began = Instant::now();
    let context = open(device)?;
    Subject::first_step(&context, config, &data)?;
    let took = began.elapsed().as_secs_f64();
    let info = context.info();
    found.put("version", env!("CARGO_PKG_VERSION"));
    found.put("adapter", info.name.as_str());
    found.put("driver", [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim());
    found.put("clock", context.clock().name());
    found.put("quick", effort == Effort::Quick);
    found.put("first_step_seconds", took);
    Ok(context)
}

/// Submissions whose recording is timed.
const SUBMISSIONS: usize = 101;

/// What remains where a network computes next to nothing: recording, and memory that grows by the step.
fn small_network(context: &Context, effort: Effort, found: &mut Headline) -> Result<(), BenchError> {
    let mut draft = Draft::open("digits")?;
    let layers =
        "[{type=\"dense\",out=16},{type=\"relu\"},{type=\"dense\",out=16},{type=\"relu\"},{type=\"dense\",out=10}]";
    for (key, value) in [("model.layers", layers), ("feedback.rank", "4"), ("train.batch", "4")] {
        draft.set(key, value)?;
    }
    let config = Way::Local.of(draft)?.resolved();
    let network = Network::new(&network_spec(&config, &dataset(&config)?)?)?;
    let plan = Plan::new(network.recording.clone(), &context.profile(), Options::default())?;
    let operations = plan.nodes(Phase::Train).len();
    // Zeros will do: the kernels take the same time on them, and only the host's time is looked at.
    let mut gpu = Gpu::blocking(context.clone(), plan)?;
    let replica = ReplicaStep { seed: 0, rate: [1e-3; 2], decay: [0.0; 2] };
    let step =
        |step| StepState { step, cursor: 0, active_rows: 4, groups: Default::default(), replicas: vec![replica] };
    let batch = gpu.batch(Phase::Train);
    let states: Vec<StepState> = (0..batch as u32).map(step).collect();
    let mut run = |steps: usize| -> Result<Option<i64>, BenchError> {
        for _ in 0..steps.div_ceil(batch) {
            gpu.run(Phase::Train, &states)?;
        }
        gpu.read(network.fault)?;
        Ok(resident_bytes())
    };
    let half = effort.pick(4_950, 100);
    let (start, middle, end) = (run(100)?, run(half)?, run(half)?);
    let growth = |from: Option<i64>, to: Option<i64>| from.zip(to).map(|(from, to)| to - from);
    found.put("memory_growth_bytes", growth(start, end));
    // What the driver's pools still take in the first submissions is not in this one; a leak is.
    found.put("memory_growth_second_half_bytes", growth(middle, end));
    let timed = (0..effort.pick(SUBMISSIONS, 5)).map(|_| gpu.time_recording(Phase::Train, &states));
    let seconds = median(&timed.collect::<Result<Vec<_>, _>>()?);
    found.put("record_us_per_op", 1e6 * seconds / (batch * operations) as f64);
    found.put("record_steps_per_submission", batch);
    Ok(())
}

/// Resident set of this process; none where the system does not say.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?)
}

fn kernels(context: &Context, effort: Effort, found: &mut Headline) -> Result<(), BenchError> {
    let rounds = effort.pick(9, 3);
    let ceilings = Ceilings::measure(context, rounds, effort)?;
    found.put("fma_gflops", ceilings.flops / 1e9);
    found.put("copy_gbs", ceilings.bytes / 1e9);
    let selected = Options::default();
    let gemm = |options| Workload::new(context, product([effort.pick(512, 32); 3], "nn", None)?, options, effort);
    let mut gemms = [gemm(selected)?, gemm(selected)?, gemm(Options { force: Some(YARDSTICK), ..selected })?];
    let samples = interleave(&mut gemms, rounds, Workload::sample)?;
    let gflops = gemms[0].cost().flops as f64 / samples[0].median() / 1e9;
    found.put("control", samples[1].over(&samples[0]));
    found.put("gemm512_over_yardstick", samples[2].over(&samples[0]));
    found.put("gemm512_gflops", gflops);
    found.put("gemm512_share_of_fma", 1e9 * gflops / ceilings.flops);
    found.put("gemm512_form", gemms[0].form());
    found.put("gemm512_yardstick_form", gemms[2].form());

    half(context, rounds, effort, found)?;
    convolved(context, rounds, effort, found)?;

    let apart = Options { fuse: false, ..selected };
    let shape = effort.pick([4096, 512, 16], [64, 32, 4]);
    let form = |form, options| Workload::new(context, transport(shape, form)?, options, effort);
    let mut transports = [form(Form::Recorded, apart)?, form(Form::Split, apart)?, form(Form::Recorded, selected)?];
    let samples = interleave(&mut transports, rounds, Workload::sample)?;
    found.put("fused_over_unfused_time", samples[2].over(&samples[0]));
    found.put("fused_over_split_time", samples[2].over(&samples[1]));
    found.put("fused_form", transports[2].form());
    Ok(())
}

/// A convolution of 64 to 64 channels against the plain product of the same size: how much of its rate is left.
fn convolved(context: &Context, rounds: usize, effort: Effort, found: &mut Headline) -> Result<(), BenchError> {
    let [images, side, channels] = effort.pick([16, 32, 64], [1, 4, 4]);
    let plain = product([images * side * side, channels, 9 * channels], "nt", None)?;
    let build = |recording| Workload::new(context, recording, Options::default(), effort);
    let mut both = [build(convolution([images, side, channels], Pass::Forward)?)?, build(plain)?];
    let samples = interleave(&mut both, rounds, Workload::sample)?;
    found.put("convolution_rate_over_product", samples[1].over(&samples[0]));
    found.put("convolution_gflops", both[0].cost().flops as f64 / samples[0].median() / 1e9);
    Ok(())
}

/// A product in half precision, where the adapter computes in it, against the same in single precision.
fn half(context: &Context, rounds: usize, effort: Effort, found: &mut Headline) -> Result<(), BenchError> {
    let profile = context.profile();
    let size = effort.pick(if profile.software { 512 } else { 4096 }, 32);
    let mut over_single = None;
    let mut form = None;
    if profile.half {
        let gemm = |half| Workload::new(context, product([size; 3], "nn", half)?, Options::default(), effort);
        let mut gemms = [gemm(None)?, gemm(Some(Half::default()))?];
        let samples = interleave(&mut gemms, rounds, Workload::sample)?;
        over_single = Some(samples[1].over(&samples[0]));
        form = Some(gemms[1].form());
    }
    found.put("gemm_f16_over_f32_time", over_single);
    found.put("gemm_f16_size", size);
    found.put("gemm_f16_form", form);
    Ok(())
}

type Build = fn(&Context, Config, &Dataset, Effort) -> Result<Subject, BenchError>;

/// Whole steps and their backward part.
const BOTH: [(&str, Build); 2] = [("step", Subject::steps), ("backward", Subject::backward)];

/// Backprop against both kinds of learned feedback.
fn compare(
    context: &Context,
    draft: &Draft,
    prefix: &str,
    measures: &[(&str, Build)],
    effort: Effort,
    found: &mut Headline,
) -> Result<(), BenchError> {
    let ways = [("backprop", Way::Backprop), ("local", Way::Local), ("normative", Way::Normative)];
    let data = dataset(&Way::Backprop.of(draft.clone())?)?;
    for (what, build) in measures {
        let subjects = ways.map(|(_, way)| build(context, way.of(draft.clone())?, &data, effort));
        let mut subjects = subjects.into_iter().collect::<Result<Vec<_>, BenchError>>()?;
        let samples = interleave(&mut subjects, effort.pick(9, 2), Subject::sample)?;
        for (at, (name, _)) in ways.iter().enumerate() {
            found.put(format!("{prefix}{what}_{name}_ms"), 1e3 * samples[at].median());
            if at > 0 {
                let flops = subjects[at].flops() as f64 / subjects[0].flops() as f64;
                let time = samples[at].over(&samples[0]);
                found.put(format!("{prefix}{what}_{name}_over_backprop"), time);
                found.put(format!("{prefix}{what}_flops_{name}_over_backprop"), flops);
                found.put(format!("{prefix}{what}_{name}_cut_realised"), realised(time, flops));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_resident_set_is_read_where_there_is_one() {
        let bytes = resident_bytes();
        assert_eq!(bytes.is_some(), cfg!(target_os = "linux"));
        assert!(bytes.is_none_or(|bytes| bytes > 1 << 20), "{bytes:?}");
    }

    #[test]
    fn the_object_holds_what_was_put() {
        let mut found = Headline(Vec::new());
        found.put("ratio", 0.5);
        found.put("adapter", "card");
        found.put("memory", None::<i64>);
        assert_eq!(found.json(), json!({"ratio": 0.5, "adapter": "card", "memory": null}));
        let text = found.to_string();
        assert!(
            text.contains("0.5000") && text.contains("card") && text.ends_with(" -") && !text.contains("null"),
            "{text}"
        );
    }

    /// Widths, heads, tokens and ranks are the preset's; only blocks are fewer.
    #[test]
    fn the_transformer_is_the_preset_with_two_blocks() {
        let config = transformer(Effort::Full).unwrap().finish().unwrap();
        let preset = Draft::open("vit-cifar10").unwrap().finish().unwrap();
        let (own, all) = (&config.model.layers, &preset.model.layers);
        assert_eq!((own.len() + 12, config.train.batch), (all.len(), 64));
        assert_eq!((&own[..7], &own[7..]), (&all[..7], &all[19..]));
        let ranks: Vec<String> = config.feedback.ranks.iter().map(|(name, rank)| format!("{name} {rank}")).collect();
        assert_eq!(ranks, ["layers.3.main.1 3r", "layers.5.main.1 3r"]);
        assert_eq!(config.feedback.rank, preset.feedback.rank);
    }

    /// Of a step of 2 % more operations that takes 6 % longer, of one with as many, and of one that saves half a hundredth.
    #[test]
    fn what_cuts_nothing_realises_nothing() {
        for (time, flops) in [(1.06, 1.02), (1.03, 1.0), (0.97, 0.995), (0.99, 0.9901)] {
            assert_eq!(realised(time, flops), None, "{time} {flops}");
        }
        assert_eq!(realised(0.75, 0.5), Some(0.5));
        assert_eq!(realised(1.25, 0.75), Some(-1.0), "fewer operations, and longer");
    }
}
