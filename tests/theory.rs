//! What the theory of the linear network says, on the device: learned feedback of rank r learns the r largest modes, fixed
//! feedback does not, and the engine walks where the closed equations say.

use ldfa_gpu::experiment::theory::{Feedback, Problem, Setting, Trajectory, draw_modes, endings, read_csv, write_csv};
use ldfa_gpu::gpu::DeviceChoice;

fn run(problem: &Problem, feedback: Feedback) -> Trajectory {
    problem.run(feedback, &DeviceChoice::Best).unwrap()
}

#[test]
fn learned_feedback_recovers_the_largest_modes_and_fixed_feedback_does_not() {
    let problem = Problem::new(Setting::default()).unwrap();
    let exact = run(&problem, Feedback::Exact);
    let learned = run(&problem, Feedback::Learned { rank: 8 });
    let fixed = run(&problem, Feedback::Fixed { rank: 8 });
    let whole = run(&problem, Feedback::Learned { rank: 64 });
    for found in [&exact, &learned, &fixed, &whole] {
        let (name, rank) = (found.feedback.name(), found.feedback.rank());
        println!(
            "{name} {rank:?}: modes 0-7 {:.3}, 8-15 {:.3}, beyond 16 {:.3}, distance {:.1e}",
            found.mean(0..8),
            found.mean(8..16),
            found.mean(17..64),
            found.distance()
        );
        assert!(found.distance() < 1e-3, "{name} leaves the closed equations by {}", found.distance());
        assert!(found.mean(0..64).is_finite());
    }
    assert!(exact.mean(0..21) > 0.99 && whole.mean(0..21) > 0.99);
    assert!(learned.mean(0..8) >= 0.95 && learned.mean(17..64) < 0.5);
    assert!(fixed.mean(0..8) < 0.7);
}

/// The file of a short run holds every mode at every recorded iteration, starting near zero.
#[test]
fn the_file_holds_every_mode() {
    let setting = Setting { inputs: 9, hidden: 6, outputs: 5, samples: 12, iterations: 25, ..Setting::default() };
    let problem = Problem::new(setting).unwrap();
    let found = [Feedback::Exact, Feedback::Learned { rank: 2 }].map(|feedback| run(&problem, feedback));
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("theory.csv");
    write_csv(&path, &found).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    // Iterations 0, 10 and 20, five modes, two ways, and the names.
    assert_eq!(text.lines().count(), 1 + 2 * 3 * 5);
    assert!(text.lines().nth(1).unwrap().starts_with("backprop,,0,0,0,"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("learned,2,0,20,4,"), "{text}");
    let again = read_csv(&path).unwrap();
    assert_eq!(again.len(), 2);
    for (read, found) in again.iter().zip(&found) {
        assert_eq!((read.feedback, &read.iterations), (found.feedback, &found.iterations));
        let close = |a: &f64, b: &f64| (a - b).abs() < 1e-6;
        assert!(read.engine.concat().iter().zip(found.engine.concat()).all(|(a, b)| close(a, &b)));
        assert!(read.modes.len() == 5 && read.modes.iter().zip(&found.modes).all(|(a, b)| close(a, b)));
    }
    std::fs::write(&path, text.replace("learned,2", "learned,")).unwrap();
    assert!(read_csv(&path).unwrap_err().to_string().contains("no feedback \"learned\""));
    let path = folder.path().join("modes.png");
    draw_modes(&path, &found).unwrap();
    let picture = image::open(&path).unwrap().to_rgb8();
    assert!(picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count() > 5000, "blank");
    assert!(draw_modes(&folder.path().join("none/modes.png"), &found).unwrap_err().to_string().contains("modes.png"));
}

#[test]
fn endings_are_over_seeds() {
    let of = |seed, overlap: f64| Trajectory {
        feedback: Feedback::Fixed { rank: 2 },
        seed,
        modes: vec![1.0; 20],
        iterations: vec![0],
        engine: vec![vec![overlap; 20]],
        closed: vec![vec![overlap + 0.25; 20]],
    };
    let found = endings(&[of(0, 0.5), of(1, 0.75)]);
    assert_eq!((found.len(), found[0].seeds, found[0].distance), (1, 2, 0.25));
    let [first, _, beyond] = found[0].overlaps;
    assert!(first.mean == 0.625 && beyond.mean == 0.625 && (first.std.unwrap() - 0.125 * 2f64.sqrt()).abs() < 1e-12);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let wrong = Setting { samples: 100, ..Setting::default() };
    assert!(Problem::new(wrong).unwrap_err().to_string().contains("samples at least the inputs"));
    let problem = Problem::new(Setting { iterations: 1, ..Setting::default() }).unwrap();
    for rank in [0, 65] {
        let refused = problem.run(Feedback::Learned { rank }, &DeviceChoice::Reference).unwrap_err().to_string();
        assert!(refused.contains("between 1 and 64"), "{refused}");
    }
}
