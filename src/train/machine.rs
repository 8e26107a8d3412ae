//! A plan and what runs it: adapter or reference, default or measured kernels.

use super::TrainError;
use crate::gpu::{Cache, Context, DeviceChoice, Gpu, GpuError, LimitPolicy, budget, is_open, tune};
use crate::ops::Recording;
use crate::plan::{Blocking, Executor, Options, Plan, Profile, Tuned};
use crate::reference::Reference;

/// Where the choice of kernels comes from.
#[derive(Clone, Debug, Default)]
pub enum Kernels {
    /// The table of defaults: the same on every machine of a kind.
    #[default]
    Defaults,
    /// Choices that were made before, such as those a run began with.
    Chosen(Tuned),
    /// What the cache holds for the adapter; what it lacks is measured and added to it. Without a cache that can be
    /// written, nothing is measured: two runs would not choose alike.
    Measured,
}

/// What a machine may use besides its plan. The default touches no file.
#[derive(Clone, Debug, Default)]
pub struct Preparation {
    /// Where the choice of kernels comes from.
    pub kernels: Kernels,
    /// Where measurements and compiled pipelines are kept.
    pub cache: Option<Cache>,
}

/// A plan and what runs it.
pub struct Machine {
    /// The plan.
    pub plan: Plan,
    /// What runs it.
    pub executor: Box<Blocking>,
    /// Whether that is a CPU.
    pub is_software: bool,
    /// Measured kernels that the plan uses.
    pub kernels: Tuned,
    /// What the user should know about the choice.
    pub warning: Option<String>,
}

/// Plans a recording for an open device, with measured kernels where there are any.
///
/// # Errors
/// If a tensor does not fit the device, or it fails.
pub fn machine_on(
    context: Context,
    recording: &Recording,
    options: Options,
    chosen: &Tuned,
) -> Result<Machine, TrainError> {
    let is_software = context.is_software();
    let warning = is_software.then(|| {
        format!(
            "{} is a software adapter: the CPU computes, correctly but far slower than a GPU (see \
             `ldfa-gpu devices`)",
            context.describe()
        )
    });
    let plan = Plan::tuned(recording.clone(), &context.profile(), options, chosen)?;
    let kernels = plan.uses(chosen);
    tracing::debug!(chosen_kernels = kernels.len(), "plan made");
    let executor = Gpu::blocking(context, plan.clone())?;
    executor.context().keep_pipelines();
    Ok(Machine { plan, executor: Box::new(executor), is_software, kernels, warning })
}

/// The chosen adapter; none for the f64 reference, and where there is no adapter at all.
fn opened(choice: &DeviceChoice, open: impl Fn() -> Result<Context, GpuError>) -> Result<Option<Context>, GpuError> {
    match choice {
        DeviceChoice::Reference => Ok(None),
        _ => match open() {
            Err(GpuError::NoAdapter) if *choice == DeviceChoice::Best => Ok(None),
            opened => opened.map(Some),
        },
    }
}

/// What plans for the chosen adapter have to fit; without any adapter, those of the f64 reference.
///
/// # Errors
/// If the adapter does not exist or fails.
pub fn profile_of(choice: &DeviceChoice) -> Result<Profile, GpuError> {
    let context = opened(choice, || Context::open(choice, LimitPolicy::from_env()))?;
    Ok(context.map_or_else(Profile::reference, |context| context.profile()))
}

/// Plans a recording for the chosen adapter; without any adapter, for the f64 reference.
///
/// # Errors
/// If the adapter does not exist or fails, or a tensor does not fit it.
pub fn machine(
    recording: &Recording,
    choice: &DeviceChoice,
    options: Options,
    preparation: &Preparation,
) -> Result<Machine, TrainError> {
    let open = || Context::open_with(choice, LimitPolicy::from_env(), preparation.cache.as_ref());
    match opened(choice, open)? {
        Some(mut context) => {
            tracing::debug!(adapter = context.describe(), "adapter open");
            let chosen = match (&preparation.kernels, &preparation.cache) {
                (Kernels::Chosen(tuned), _) => tuned.clone(),
                (Kernels::Measured, Some(cache)) => measure(&mut context, cache, recording, options, open)?,
                (Kernels::Measured, None) | (Kernels::Defaults, _) => Tuned::default(),
            };
            machine_on(context, recording, options, &chosen)
        }
        None => {
            let plan = Plan::new(recording.clone(), &Profile::reference(), options)?;
            let executor = Box::new(Blocking::new(Reference::new(plan.clone())));
            let warning = (*choice != DeviceChoice::Reference).then(|| {
                format!("{}; meanwhile the f64 reference executor runs the plan, slowly", GpuError::NoAdapter)
            });
            Ok(Machine { plan, executor, is_software: true, kernels: Tuned::default(), warning })
        }
    }
}

/// The cache's kernels for a recording; what it lacks is measured and kept.
fn measure(
    context: &mut Context,
    cache: &Cache,
    recording: &Recording,
    options: Options,
    reopen: impl Fn() -> Result<Context, GpuError>,
) -> Result<Tuned, TrainError> {
    let key = context.key();
    let known = cache.load_kernels(&key);
    let plan = Plan::tuned(recording.clone(), &context.profile(), options, &known)?;
    if !is_open(context, &plan, &known) {
        tracing::debug!("kernels known");
        return Ok(known);
    }
    if !cache.is_writable(&key) {
        return Ok(known);
    }
    let reference = |plan| -> Box<dyn Executor> { Box::new(Reference::new(plan)) };
    match context.block_on(tune(context, &plan, &known, budget(context), &reference)) {
        Ok(measured) => {
            let count = measured.tuned.len();
            let all = if count > 0 { cache.add_kernels(&key, &measured.tuned) } else { known };
            tracing::debug!(measured = count, open = measured.open, "kernels tuned");
            Ok(all)
        }
        Err(error) => {
            tracing::warn!("measuring kernels failed ({error}); the defaults are used");
            *context = reopen()?;
            Ok(known)
        }
    }
}
