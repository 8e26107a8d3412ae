//! Parameter updates.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings};
use crate::scene::{SIZES, Scene, asymmetric, step};

fn adam(amsgrad: bool, decoupled: bool) -> Update {
    Update::Adam { betas: (0.9, 0.99), epsilon: 1e-8, amsgrad, decoupled }
}

fn rules() -> [Update; 8] {
    [
        Update::Sgd { momentum: 0.0 },
        Update::Sgd { momentum: 0.9 },
        adam(false, false),
        adam(true, false),
        adam(false, true),
        adam(true, true),
        Update::RmsProp { alpha: 0.99, epsilon: 1e-8 },
        Update::RmsProp { alpha: 0.5, epsilon: 1e-3 },
    ]
}

/// An update of parameters of which some have no gradient, with moments under way.
fn update(scene: &mut Scene, rule: Update, count: u32, group: u32, clamp: Option<f64>, faulty: bool, allowed: f64) {
    let values = scene.updated(1, count, asymmetric);
    let gradients = scene.own(1, count);
    let mut moments = [None; 3];
    for (at, moment) in moments.iter_mut().enumerate().take(rule.moments()) {
        let signed = matches!(rule, Update::Sgd { .. }) || (at == 0 && matches!(rule, Update::Adam { .. }));
        // The largest second moment is larger than the second moment in some places only.
        let start = |x: f64| if signed { 0.1 * x } else { 0.02 + 0.3 * x * x * at as f64 };
        *moment = Some(scene.updated(1, count, |x, _, _, _| start(x)));
    }
    let fault = scene.words(1, 1, move |_, r, _| if faulty || r == 2 { 5 + r } else { 0 });
    scene.push(Optimize { update: rule, group, clamp, values, gradients, moments, fault }, |_| allowed);
}

/// Replica 2 of three has a fault, and stays as it is.
#[test]
fn every_rule_over_several_steps() {
    let mut report = Report::default();
    let steps = 4;
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for rule in rules() {
            for (at, count) in SIZES.into_iter().chain([1000]).enumerate() {
                let clamp = [None, Some(0.3)][at % 2];
                // Decay, moments, root, quotient: a dozen roundings a step, constants included, of quantities of which
                // most are small beside the values; a third of them counts in full.
                let allowed = roundings(4.0 * f64::from(steps));
                update(&mut scene, rule, count, (at / 2 % 2) as u32, clamp, false, allowed);
            }
        }
        let steps: Vec<StepState> = (0..steps).map(|number| step(replicas, number, 0, 1)).collect();
        scene.verify(&mut report, &steps);
    }
    report.finish("updates");
}

/// From the zeros in which moments start, Adam's step has the size of the rate whatever the gradient.
#[test]
fn adam_from_zero_moments_with_tiny_gradients() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    for size in [1e-6, 1e-3, 1e3] {
        for (amsgrad, decoupled) in [(false, false), (true, true)] {
            let values = scene.updated(1, 300, |x, _, _, _| 0.001 * x);
            let gradients = scene.filled(1, 300, |x, _, _, _| size * x);
            let mut moments = [None; 3];
            for moment in moments.iter_mut().take(2 + usize::from(amsgrad)) {
                *moment = Some(scene.updated(1, 300, |_, _, _, _| 0.0));
            }
            let fault = scene.words(1, 1, |_, _, _| 0);
            let update = Update::Adam { betas: (0.9, 0.99), epsilon: 1e-8, amsgrad, decoupled };
            let op = Optimize { update, group: 0, clamp: None, values, gradients, moments, fault };
            scene.push(op, |_| roundings(24.0));
        }
    }
    scene.verify(&mut report, &[step(3, 0, 0, 1), step(3, 1, 0, 1)]);
    report.finish("first steps of adam");
}

#[test]
fn a_fault_leaves_everything_untouched() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    for rule in rules() {
        update(&mut scene, rule, 261, 0, Some(0.3), true, 0.0);
    }
    scene.verify(&mut report, &[step(3, 0, 0, 1), step(3, 1, 0, 1)]);
    report.finish("updates of faulty replicas");
}
