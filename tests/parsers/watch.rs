//! What a parser asks of memory, and how many cases have really run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// The system's allocator, which keeps account.
pub(crate) struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest piece that any thread has asked for; cases of other tests run at the same time.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// No file of a few kilobytes is worth as much in one piece.
const MOST_AT_ONCE: usize = 512 << 20;

thread_local! {
    /// Bytes that this thread holds more than when its case began, and the most so far.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn account(bytes: isize) {
    // A thread that ends has no account any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
    if bytes > 0 {
        LARGEST.fetch_max(bytes as usize, Ordering::Relaxed);
    }
}

// SAFETY: every request goes to the system's allocator as it is; the account touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        account(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        account(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs a parser on a file of so many bytes; fails where it holds more than `most` beyond a small multiple of the file.
pub(crate) fn within<T>(bytes: usize, most: usize, parse: impl FnOnce() -> T) -> Result<T, TestCaseError> {
    HELD.set(0);
    PEAK.set(0);
    let parsed = parse();
    let (peak, most) = (PEAK.get() as usize, most + 16 * bytes);
    prop_assert!(peak <= most, "a file of {bytes} bytes made the parser hold {peak}");
    let largest = LARGEST.load(Ordering::Relaxed);
    prop_assert!(largest <= MOST_AT_ONCE, "{largest} bytes were asked for at once");
    Ok(parsed)
}

/// Cases of every test, and the least share of them, in percent, that passes for valid: where none did, what is asked of them would
/// be asked of nothing. `LDFA_FUZZ=20` makes the cases so many times more, with other random numbers.
pub(crate) const CASES: [(&str, u32, u32); 15] = [
    ("configuration", 2500, 8),
    ("option", 1800, 5),
    ("sweep", 500, 5),
    ("idx", 1000, 5),
    ("idx.gz", 700, 2),
    ("cifar", 200, 0),
    ("cifar.tar.gz", 200, 0),
    ("folder", 500, 2),
    ("text", 500, 5),
    ("checkpoint", 1000, 0),
    ("weights", 800, 5),
    ("log", 1200, 5),
    ("summary", 700, 5),
    ("cache", 500, 0),
    ("kernels", 500, 0),
];

const fn all() -> u32 {
    let (mut sum, mut at) = (0, 0);
    while at < CASES.len() {
        sum += CASES[at].1;
        at += 1;
    }
    sum
}

const _: () = assert!(all() >= 10_000, "the parsers meet fewer cases than they should");

/// Runs the cases of one test, each of which says whether its file passed for a valid one, and makes sure that they were as many
/// as said.
pub(crate) fn run<S: Strategy>(name: &str, strategy: &S, case: impl Fn(S::Value) -> Result<bool, TestCaseError>) {
    let (_, usual, valid) = CASES.iter().find(|(own, ..)| *own == name).expect("every test has a number of cases");
    let times: Option<u32> = std::env::var("LDFA_FUZZ").ok().map(|times| times.parse().expect("LDFA_FUZZ is a number"));
    let cases = usual * times.unwrap_or(1);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut runner = match times {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let (ran, passed) = (Cell::new(0), Cell::new(0));
    let result = runner.run(strategy, |value| {
        ran.set(ran.get() + 1);
        passed.set(passed.get() + u32::from(case(value)?));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
    println!("{name}: {} cases, {} valid", ran.get(), passed.get());
    assert_eq!(ran.get(), cases, "{name}: cases that ran");
    assert!(100 * passed.get() >= valid * cases, "{name}: only {} of {cases} cases were valid", passed.get());
}

#[test]
fn a_parser_that_holds_too_much_is_caught() {
    let parse = |bytes: usize| within(1000, 1 << 20, || std::hint::black_box(vec![1u8; bytes]).len());
    assert!(parse(1 << 19).is_ok());
    assert!(parse(1 << 21).unwrap_err().to_string().contains("made the parser hold"));
}

#[test]
#[should_panic(expected = "option")]
fn a_parser_that_panics_is_caught() {
    run("option", &(0..100u32), |number| {
        assert!(number != 7, "as a parser would");
        Ok(true)
    });
}
