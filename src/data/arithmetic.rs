//! A text that the program makes: sums and differences in English words.

use super::error::{DataError, Place};
use super::sequences::Draws;
use super::{Dataset, text};

const NAME: &str = "arithmetic";

/// Lines of the text, some 40 characters each.
const LINES: usize = 32_000;

/// Numbers that are added are below this.
const BOUND: u32 = 100;

/// Windows of a text of lines such as `forty-two plus seven is forty-nine.`
pub(super) fn make(length: Option<u32>) -> Result<Dataset, DataError> {
    text::windows(NAME, &text(), length, |fault| DataError::malformed(NAME.as_ref(), Place::File, fault))
}

fn text() -> String {
    let mut draws = Draws::of_stream(0);
    (0..LINES).map(|_| line(draws.below(BOUND), draws.below(BOUND), draws.below(2) == 0)).collect()
}

/// A difference is taken from the larger number.
fn line(a: u32, b: u32, is_sum: bool) -> String {
    let (first, word, second, result) =
        if is_sum { (a, "plus", b, a + b) } else { (a.max(b), "minus", a.min(b), a.abs_diff(b)) };
    format!("{} {word} {} is {}.\n", words(first), words(second), words(result))
}

/// A number below 200 in words.
fn words(number: u32) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    match (number, number % 10) {
        (0..20, _) => SMALL[number as usize].to_owned(),
        (20..100, 0) => TENS[number as usize / 10].to_owned(),
        (20..100, ones) => format!("{}-{}", TENS[number as usize / 10], SMALL[ones as usize]),
        (100, _) => "one hundred".to_owned(),
        _ => format!("one hundred {}", words(number - 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Contents;

    #[test]
    fn lines_are_true() {
        assert_eq!(line(42, 7, true), "forty-two plus seven is forty-nine.\n");
        assert_eq!(line(13, 80, false), "eighty minus thirteen is sixty-seven.\n");
        assert_eq!(line(99, 99, true), "ninety-nine plus ninety-nine is one hundred ninety-eight.\n");
        assert_eq!(line(50, 50, true), "fifty plus fifty is one hundred.\n");
        assert_eq!(line(5, 5, false), "five minus five is zero.\n");
    }

    #[test]
    fn the_text_is_long_enough_and_the_same_every_time() {
        let text = text();
        assert!(text.len() > 1 << 20, "{} bytes", text.len());
        assert_eq!(text, super::text());
        let data = make(None).unwrap();
        assert_eq!(
            data.train.len() + data.test.len(),
            (text.len() - text.len() / 10 - 1) / 64 + (text.len() / 10 - 1) / 64
        );
        assert_eq!(data.contents, Contents::Tokens(data.classes.len() as u32));
    }
}
