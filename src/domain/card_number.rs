//! Finds card numbers in free text, so that none ever reaches a log or the journal, which forgets nothing.
//!
//! A card number is 13 to 19 digits whose check digit fits (Luhn, ISO/IEC 7812-1 annex B), written in one run or in
//! groups that are parted by one or two spaces, hyphens, dots or underscores. Any stretch of whole groups counts: what
//! stands before or after a card number (an expiry date, a CVC) does not hide it.

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
const SEPARATORS_MAX: usize = 2;

/// Whether `text` holds something that could be a card number.
#[must_use]
pub fn contains_card_number(text: &str) -> bool {
    // Nearly every text has too few digits.
    if text.chars().filter_map(digit_of).count() < DIGITS_MIN {
        return false;
    }
    // Groups of digits that follow each other, parted by separators only.
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut separators = 0;
    for character in text.chars() {
        match digit_of(character) {
            Some(digit) => {
                match (separators, groups.last_mut()) {
                    (0, Some(group)) => group.push(digit),
                    (1..=SEPARATORS_MAX, Some(_)) => groups.push(vec![digit]),
                    _ => {
                        if any_stretch_fits(&groups) {
                            return true;
                        }
                        groups = vec![vec![digit]];
                    }
                }
                separators = 0;
            }
            None if is_separator(character) => separators += 1,
            None => separators = SEPARATORS_MAX + 1,
        }
    }
    any_stretch_fits(&groups)
}

/// Also digits of full width (U+FF10 to U+FF19), which some keyboards type.
fn digit_of(character: char) -> Option<u8> {
    let ascii = match character {
        '\u{ff10}'..='\u{ff19}' => char::from_u32(u32::from(character) - 0xff10 + u32::from(b'0'))?,
        other => other,
    };
    u8::try_from(ascii.to_digit(10)?).ok()
}

fn is_separator(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '.' | '_' | '\u{2010}'..='\u{2015}')
}

fn any_stretch_fits(groups: &[Vec<u8>]) -> bool {
    (0..groups.len()).any(|start| {
        let mut digits: Vec<u8> = Vec::with_capacity(DIGITS_MAX);
        for group in groups.iter().skip(start) {
            digits.extend(group);
            if digits.len() > DIGITS_MAX {
                break;
            }
            if digits.len() >= DIGITS_MIN && has_check_digit(&digits) {
                return true;
            }
        }
        false
    })
}

/// The Luhn formula: every second digit from the right, the last one not counted, is doubled.
fn has_check_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for text in [
            "4242424242424242",
            "card 4242 4242 4242 4242 exp 12/30",
            "4242 4242 4242 4242 12/30",
            "4242 4242 4242 4242 123",
            "7 4242 4242 4242 4242",
            "4242-4242-4242-4242",
            "4242  4242  4242  4242",
            "4242\u{a0}4242\u{a0}4242\u{a0}4242",
            "4242\t4242.4242_4242",
            "４２４２４２４２４２４２４２４２",
            "378282246310005",
            "3782 822463 10005",
            "x4222222222222x",
            "6304000000000000000 0",
            "order 12 4242424242424242",
        ] {
            assert!(contains_card_number(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "",
            "Order #12345",
            "4242424242424241",
            "424242424242",
            "42424242424242424242424242",
            "4242 4242   4242 4242",
            "4242,4242,4242,4242",
            "2026-11-22T15:04:05",
        ] {
            assert!(!contains_card_number(text), "{text}");
        }
    }
}
