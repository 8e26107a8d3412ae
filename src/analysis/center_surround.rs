//! Whether a receptive field is a centre with its surround or oriented: how much of it a model of either kind explains.

use std::f64::consts::{PI, TAU};

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::{DMatrix, DVector, Dyn, Owned};

/// Least height and width of a field: with 25 pixels, the 9 numbers of a Gabor function do not yet fit whatever there is.
const LEAST_SIDE: usize = 5;

/// Least standard deviation of a Gaussian, in pixels: next to nothing of it reaches the next pixel but one.
const NARROWEST: f64 = 0.4;

/// Least cycles of a Gabor's wave within one standard deviation of its envelope: 1.4 within two to either side, a bandwidth of 1.7
/// octaves. A slower even wave has hardly any flanks: it is a blob, which a round Gaussian is as well. A slower odd wave is an
/// edge, and a wave this fast under a narrower envelope still explains almost all of that.
const LEAST_CYCLES: f64 = 0.35;

/// Highest frequency that pixels can show, in cycles per pixel.
const NYQUIST: f64 = 0.5;

/// How many of the starts are refined: those that fit best to begin with.
const REFINED: usize = 6;

/// How well both models fit a field: the share of its variance that each explains, 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Of two round Gaussians with one centre and an offset: 7 numbers.
    pub center_surround: f64,
    /// Of a Gabor function, a wave under a Gaussian with a width along it and one across, and an offset: 9 numbers.
    pub gabor: f64,
}

impl Shape {
    /// From 1, where centre and surround alone explain anything, to -1, where the Gabor function alone does. `None` if neither
    /// does.
    pub fn index(&self) -> Option<f64> {
        let sum = self.center_surround + self.gabor;
        (sum > 0.0).then(|| (self.center_surround - self.gabor) / sum)
    }
}

/// Of a field, height x width pixels, row-major. Neither its offset nor its scale or sign matter. `None` without variance, where a
/// number is not finite, where rows are incomplete, and for less than 5 x 5 pixels.
pub fn shape(field: &[f64], width: usize) -> Option<Shape> {
    let height = field.len().checked_div(width)?;
    if width * height != field.len() || width.min(height) < LEAST_SIDE {
        return None;
    }
    let grid = Grid { width, height };
    let target = normalized(field)?;
    let places = grid.places(&target);
    Some(Shape {
        center_surround: explained(&target, grid, gaussians, gaussian_starts(grid, &places)),
        gabor: explained(&target, grid, waves, wave_starts(grid, &places)),
    })
}

/// The field with mean 0 and norm 1.
fn normalized(field: &[f64]) -> Option<DVector<f64>> {
    // Divided first, the largest numbers do not overflow.
    let largest = field.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let mut field = DVector::from_iterator(field.len(), field.iter().map(|value| value / largest));
    field.add_scalar_mut(-field.mean());
    let norm = field.norm();
    // Less is rounding; and not a number if all are zero, or if one is not finite.
    (norm > 1e-12 * (field.len() as f64).sqrt()).then(|| field / norm)
}

#[derive(Clone, Copy, Debug)]
struct Grid {
    width: usize,
    height: usize,
}

impl Grid {
    /// The longer side, in pixels.
    fn side(self) -> f64 {
        self.width.max(self.height) as f64
    }

    fn pixels(self) -> impl Iterator<Item = (f64, f64)> {
        (0..self.height).flat_map(move |y| (0..self.width).map(move |x| (x as f64, y as f64)))
    }

    /// A pair of functions of the distances in x and y from a centre, at all pixels.
    fn sample(self, (x, y): (f64, f64), of: impl Fn(f64, f64) -> (f64, f64)) -> [DVector<f64>; 2] {
        let (first, second): (Vec<f64>, Vec<f64>) = self.pixels().map(|(px, py)| of(px - x, py - y)).unzip();
        [DVector::from_vec(first), DVector::from_vec(second)]
    }

    /// Where a field may have its centre: at its largest value, and, for that may be noise, where it is largest when smoothed.
    fn places(self, target: &DVector<f64>) -> Vec<(f64, f64)> {
        let smooth = DVector::from_fn(target.len(), |pixel, _| {
            let (x, y) = (pixel % self.width, pixel / self.width);
            let rows = y.saturating_sub(1)..(y + 2).min(self.height);
            let columns = x.saturating_sub(1)..(x + 2).min(self.width);
            rows.flat_map(|y| columns.clone().map(move |x| target[y * self.width + x])).sum::<f64>()
        });
        let mut peaks = vec![target.icamax(), smooth.icamax()];
        peaks.dedup();
        peaks.into_iter().map(|peak| ((peak % self.width) as f64, (peak / self.width) as f64)).collect()
    }

    /// A centre anywhere on the field, from two free parameters.
    fn centre(self, x: f64, y: f64) -> (f64, f64) {
        (bounded(x, -0.5, self.width as f64 - 0.5), bounded(y, -0.5, self.height as f64 - 0.5))
    }

    fn free_centre(self, (x, y): (f64, f64)) -> (f64, f64) {
        (free(x, -0.5, self.width as f64 - 0.5), free(y, -0.5, self.height as f64 - 0.5))
    }
}

/// Maps any number smoothly into a range; unlike the logistic function, a sine reaches its bounds, so that a best fit at a bound is
/// found in few steps.
fn bounded(free: f64, low: f64, high: f64) -> f64 {
    low + (high - low) * (1.0 + free.sin()) / 2.0
}

/// The inverse of `bounded`, kept from the very bounds, where the sine is flat and a search would not start.
fn free(value: f64, low: f64, high: f64) -> f64 {
    (2.0 * ((value - low) / (high - low)).clamp(0.02, 0.98) - 1.0).asin()
}

/// What a model adds up, in amounts that are best found by linear least squares, at all pixels, from free parameters.
type Atoms = fn(Grid, &DVector<f64>) -> [DVector<f64>; 2];

/// Two round Gaussians: centre in x and y, the two widths.
fn gaussians(grid: Grid, free: &DVector<f64>) -> [DVector<f64>; 2] {
    let exponent = |free: f64| -0.5 / bounded(free, NARROWEST, grid.side()).powi(2);
    let (a, b) = (exponent(free[2]), exponent(free[3]));
    grid.sample(grid.centre(free[0], free[1]), |x, y| {
        let square = x * x + y * y;
        ((a * square).exp(), (b * square).exp())
    })
}

fn gaussian_starts(grid: Grid, places: &[(f64, f64)]) -> Vec<DVector<f64>> {
    let mut starts = Vec::new();
    for (x, y) in places.iter().map(|place| grid.free_centre(*place)) {
        for center in [0.7, 1.2, 2.0, 3.5, 6.0] {
            for ratio in [1.5, 3.0] {
                let width = |pixels: f64| free(pixels, NARROWEST, grid.side());
                starts.push(DVector::from_vec(vec![x, y, width(center), width(center * ratio)]));
            }
        }
    }
    starts
}

/// A cosine and a sine under a Gaussian: centre in x and y, widths along and across the wave, direction, frequency.
fn waves(grid: Grid, free: &DVector<f64>) -> [DVector<f64>; 2] {
    let along = bounded(free[2], LEAST_CYCLES / NYQUIST, grid.side());
    let across = bounded(free[3], NARROWEST, grid.side());
    let (sin, cos) = free[4].sin_cos();
    let frequency = bounded(free[5], LEAST_CYCLES / along, NYQUIST);
    grid.sample(grid.centre(free[0], free[1]), |x, y| {
        let (u, v) = (cos * x + sin * y, cos * y - sin * x);
        let envelope = (-0.5 * ((u / along).powi(2) + (v / across).powi(2))).exp();
        let (sin, cos) = (TAU * frequency * u).sin_cos();
        (envelope * cos, envelope * sin)
    })
}

fn wave_starts(grid: Grid, places: &[(f64, f64)]) -> Vec<DVector<f64>> {
    let mut starts = Vec::new();
    for (x, y) in places.iter().map(|place| grid.free_centre(*place)) {
        for wavelength in [3.0, 4.5, 7.0, 10.0, 15.0] {
            for cycles in [0.45, 0.8] {
                let along = cycles * wavelength;
                for direction in 0..8 {
                    starts.push(DVector::from_vec(vec![
                        x,
                        y,
                        free(along, LEAST_CYCLES / NYQUIST, grid.side()),
                        free(along, NARROWEST, grid.side()),
                        PI * f64::from(direction) / 8.0,
                        free(1.0 / wavelength, LEAST_CYCLES / along, NYQUIST),
                    ]));
                }
            }
        }
    }
    starts
}

/// The share of the variance that a model explains at the best of its parameters.
fn explained(target: &DVector<f64>, grid: Grid, atoms: Atoms, starts: Vec<DVector<f64>>) -> f64 {
    let fit = |parameters| Fit { target, grid, atoms, parameters };
    // From few of the starts a search ends in the best minimum: several are followed a little way, and the best of them to its end.
    let mut fits: Vec<(f64, Fit<'_>)> = starts.into_iter().map(fit).map(|fit| (fit.rest().norm(), fit)).collect();
    fits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let solver = LevenbergMarquardt::new().with_stepbound(1.0);
    let (rough, fine) = (solver.with_tol(1e-2).with_patience(3), solver.with_tol(1e-5).with_patience(8));
    let roughly = fits.into_iter().take(REFINED).map(|(_, fit)| rough.minimize(fit));
    let best = roughly.min_by(|a, b| a.1.objective_function.total_cmp(&b.1.objective_function));
    let left = best.map_or(1.0, |(fit, _)| 2.0 * fine.minimize(fit).1.objective_function);
    // A search that failed leaves all, for the smaller of a number and none is the number.
    (1.0 - left.min(1.0)).max(0.0)
}

/// Variable projection: only the parameters that are not linear are searched for.
struct Fit<'a> {
    target: &'a DVector<f64>,
    grid: Grid,
    atoms: Atoms,
    parameters: DVector<f64>,
}

impl Fit<'_> {
    /// What the best sum of both atoms and an offset leaves of the target.
    fn rest(&self) -> DVector<f64> {
        self.rest_at(&self.parameters)
    }

    fn rest_at(&self, parameters: &DVector<f64>) -> DVector<f64> {
        let [mut first, mut second] = (self.atoms)(self.grid, parameters);
        let mut rest = self.target.clone();
        make_unit(&mut first);
        second.axpy(-first.dot(&second), &first, 1.0);
        make_unit(&mut second);
        rest.axpy(-first.dot(&rest), &first, 1.0);
        rest.axpy(-second.dot(&rest), &second, 1.0);
        rest
    }
}

/// Takes the mean away, for the offset explains it, and makes the norm 1; 0 for what is but rounding.
fn make_unit(atom: &mut DVector<f64>) {
    atom.add_scalar_mut(-atom.mean());
    let norm = atom.norm();
    *atom *= if norm > 1e-7 { 1.0 / norm } else { 0.0 };
}

impl LeastSquaresProblem<f64, Dyn, Dyn> for Fit<'_> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, parameters: &DVector<f64>) {
        self.parameters.copy_from(parameters);
    }

    fn params(&self) -> DVector<f64> {
        self.parameters.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        Some(self.rest())
    }

    /// By differences, which are exact enough for parameters all of size 1.
    fn jacobian(&self) -> Option<DMatrix<f64>> {
        const STEP: f64 = 1e-6;
        let rest = self.rest();
        let columns: Vec<DVector<f64>> = (0..self.parameters.len())
            .map(|parameter| {
                let mut moved = self.parameters.clone();
                moved[parameter] += STEP;
                (self.rest_at(&moved) - &rest) / STEP
            })
            .collect();
        Some(DMatrix::from_columns(&columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that look random, always the same.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
            ((mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 11) as f64 / (1u64 << 53) as f64
        }

        fn between(&mut self, low: f64, high: f64) -> f64 {
            low + (high - low) * self.next()
        }

        /// Mean 0, variance 1, nearly normal.
        fn noise(&mut self, count: usize) -> Vec<f64> {
            (0..count).map(|_| (0..12).map(|_| self.next()).sum::<f64>() - 6.0).collect()
        }
    }

    /// A field by distances from a centre.
    fn field(width: usize, height: usize, (x, y): (f64, f64), of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        Grid { width, height }.pixels().map(|(px, py)| of(px - x, py - y)).collect()
    }

    fn gaussian(square: f64, width: f64) -> f64 {
        (-0.5 * square / (width * width)).exp()
    }

    fn center_surround(side: usize, at: (f64, f64), widths: (f64, f64), surround: f64) -> Vec<f64> {
        let of = |x: f64, y: f64| gaussian(x * x + y * y, widths.0) - surround * gaussian(x * x + y * y, widths.1);
        field(side, side, at, of)
    }

    /// With an envelope half as long again as it is wide.
    fn gabor(side: usize, at: (f64, f64), wavelength: f64, cycles: f64, angle: f64, phase: f64) -> Vec<f64> {
        field(side, side, at, |x, y| {
            let (u, v) = (x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin());
            let width = cycles * wavelength;
            gaussian(u * u + v * v / 2.25, width) * (TAU * u / wavelength + phase).cos()
        })
    }

    /// With noise of so many standard deviations of the field.
    fn noisy(field: &[f64], noise: f64, chance: &mut Chance) -> Vec<f64> {
        let clean = normalized(field).unwrap() * (field.len() as f64).sqrt();
        clean.iter().zip(chance.noise(field.len())).map(|(clean, random)| clean + noise * random).collect()
    }

    fn index(field: &[f64], width: usize) -> f64 {
        shape(field, width).unwrap().index().unwrap()
    }

    fn some_center_surrounds(chance: &mut Chance) -> Vec<(usize, Vec<f64>)> {
        let one = |side: usize, chance: &mut Chance| {
            let mut place = || chance.between(0.3, 0.7) * (side as f64 - 1.0);
            let at = (place(), place());
            let center = chance.between(0.8, 1.4);
            let ratio = chance.between(1.5, 2.5);
            let balance = chance.between(0.5, 1.0);
            center_surround(side, at, (center, center * ratio), balance / (ratio * ratio))
        };
        [9, 13, 17, 24].into_iter().flat_map(|side| [side; 6]).map(|side| (side, one(side, chance))).collect()
    }

    fn some_gabors(chance: &mut Chance) -> Vec<(usize, Vec<f64>)> {
        let one = |side: usize, chance: &mut Chance| {
            let mut place = || chance.between(0.3, 0.7) * (side as f64 - 1.0);
            let at = (place(), place());
            let (wavelength, cycles) = (chance.between(3.0, 0.5 * side as f64), chance.between(0.4, 0.9));
            gabor(side, at, wavelength, cycles, chance.between(0.0, PI), chance.between(0.0, TAU))
        };
        [9, 13, 17, 24].into_iter().flat_map(|side| [side; 6]).map(|side| (side, one(side, chance))).collect()
    }

    #[test]
    fn both_models_are_recognized() {
        let mut chance = Chance(1);
        for (side, field) in some_center_surrounds(&mut chance) {
            let found = shape(&field, side).unwrap();
            assert!(found.center_surround > 0.99 && found.index().unwrap() > 0.02, "{side}: {found:?}");
        }
        for (side, field) in some_gabors(&mut chance) {
            let found = shape(&field, side).unwrap();
            assert!(found.gabor > 0.99 && found.index().unwrap() < -0.1, "{side}: {found:?}");
        }
    }

    /// The search ends no lower than where the field came from: what the truth explains of it.
    #[test]
    fn noise_changes_neither_the_kind_nor_the_quality_of_the_fit() {
        let mut chance = Chance(2);
        let fields = some_center_surrounds(&mut chance).into_iter().map(|(side, field)| (side, field, 1.0));
        for (side, clean, sign) in
            fields.chain(some_gabors(&mut Chance(3)).into_iter().map(|(side, field)| (side, field, -1.0)))
        {
            let field = noisy(&clean, 0.3, &mut chance);
            let found = shape(&field, side).unwrap();
            let truth = normalized(&field).unwrap().dot(&normalized(&clean).unwrap()).powi(2);
            let fit = if sign > 0.0 { found.center_surround } else { found.gabor };
            assert!(fit > truth - 0.01, "{side}: {truth} {found:?}");
            assert!(sign * found.index().unwrap() > 0.0, "{side}: {found:?}");
        }
    }

    #[test]
    fn round_blobs_are_centers_and_long_waves_are_not() {
        for width in [0.6, 1.0, 1.5, 2.0, 3.0] {
            let found = shape(&field(17, 17, (8.3, 7.1), |x, y| gaussian(x * x + y * y, width)), 17).unwrap();
            assert!(found.center_surround > 0.999 && found.index().unwrap() > 0.01, "{width}: {found:?}");
        }
        // Even, with two flanks, four times as long as wide.
        let bar = field(17, 17, (8.0, 8.0), |x, y| gaussian(x * x + y * y / 16.0, 1.5) * (TAU * x / 4.0).cos());
        assert!(index(&bar, 17) < -0.4);
        // An edge is slower than any wave of the model.
        let edge = field(17, 17, (8.0, 8.0), |x, y| gaussian(x * x + y * y, 3.0) * x);
        assert!(index(&edge, 17) < -0.2);
    }

    /// Also on a grid that is not square.
    #[test]
    fn scale_sign_offset_and_quarter_turns_do_not_matter() {
        let mut chance = Chance(4);
        let surround = center_surround(13, (5.4, 6.7), (1.1, 2.2), 0.2);
        for field in [surround, gabor(13, (5.4, 6.7), 5.0, 0.5, 0.6, 1.0)] {
            // Eleven rows of thirteen.
            let field = &noisy(&field, 0.2, &mut chance)[..143];
            let expected = shape(field, 13).unwrap();
            let same = |other: Vec<f64>, width: usize| {
                let found = shape(&other, width).unwrap();
                let apart =
                    (found.center_surround - expected.center_surround).abs() + (found.gabor - expected.gabor).abs();
                assert!(apart < 1e-3, "{found:?} {expected:?}");
            };
            same(field.iter().map(|value| 1e-200 * value).collect(), 13);
            same(field.iter().map(|value| -1e300 * value).collect(), 13);
            same(field.iter().map(|value| 3.0 * value + 100.0).collect(), 13);
            same((0..13).flat_map(|x| (0..11).rev().map(move |y| field[y * 13 + x])).collect(), 11);
        }
    }

    #[test]
    fn noise_is_explained_by_neither() {
        for seed in 5..15 {
            let found = shape(&Chance(seed << 20).noise(17 * 17), 17).unwrap();
            assert!(found.center_surround < 0.15 && found.gabor < 0.2, "{found:?}");
        }
    }

    #[test]
    fn any_smooth_field_has_a_shape() {
        let mut chance = Chance(16);
        for _ in 0..200 {
            let (width, height) = (5 + (chance.next() * 8.0) as usize, 5 + (chance.next() * 8.0) as usize);
            let waves: Vec<[f64; 4]> = (0..3).map(|_| [0, 1, 2, 3].map(|_| chance.between(-1.0, 1.0))).collect();
            let field = field(width, height, (0.0, 0.0), |x, y| {
                waves
                    .iter()
                    .map(|[amount, across, down, phase]| amount * (across * x + down * y + 6.0 * phase).sin())
                    .sum()
            });
            let found = shape(&field, width).unwrap();
            let share = 0.0..=1.0;
            assert!(share.contains(&found.center_surround) && share.contains(&found.gabor), "{found:?}");
            assert_eq!(shape(&field, width), Some(found), "the same each time");
        }
    }

    #[test]
    fn without_a_shape() {
        let mut field: Vec<f64> = Chance(17).noise(49);
        assert!(shape(&field, 7).is_some());
        assert_eq!(shape(&field, 8), None, "rows are incomplete");
        assert_eq!(shape(&field, 0), None);
        assert_eq!(shape(&field, 49), None, "one row");
        assert_eq!(shape(&[], 0), None);
        assert_eq!(shape(&[], 7), None);
        assert_eq!(shape(&[1.0], 1), None);
        assert_eq!(shape(&[1.0, 2.0, 0.0, 3.0], 2), None);
        for constant in [0.0, 0.1, -1e300, 5e-324] {
            assert_eq!(shape(&[constant; 49], 7), None);
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            field[10] = bad;
            assert_eq!(shape(&field, 7), None);
        }
        // One pixel alone, and the largest numbers there are, do have one.
        field.fill(-f64::MAX);
        field[24] = f64::MAX;
        assert!(index(&field, 7) > 0.0);
        assert_eq!(Shape { center_surround: 0.0, gabor: 0.0 }.index(), None);
        assert_eq!(Shape { center_surround: 0.5, gabor: 0.0 }.index(), Some(1.0));
    }
}
