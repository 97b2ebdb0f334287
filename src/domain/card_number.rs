//! Finds card numbers in free text, so that none ever reaches a log or the journal, which forgets nothing.
//!
//! A card number is 13 to 19 digits whose check digit fits (Luhn, ISO/IEC 7812-1 annex B), written in one run or in
//! groups parted by single spaces or hyphens.

/// Whether `text` holds something that could be a card number.
#[must_use]
pub fn contains_card_number(text: &str) -> bool {
    let mut grouped = Run::default();
    let mut solid = Run::default();
    let mut separators = 0;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {
                if separators > 1 {
                    if grouped.is_card_number() {
                        return true;
                    }
                    grouped = Run::default();
                }
                separators = 0;
                grouped.push(byte - b'0');
                solid.push(byte - b'0');
            }
            b' ' | b'-' => {
                separators += 1;
                if solid.is_card_number() {
                    return true;
                }
                solid = Run::default();
            }
            _ => {
                if solid.is_card_number() || grouped.is_card_number() {
                    return true;
                }
                (solid, grouped, separators) = (Run::default(), Run::default(), 0);
            }
        }
    }
    solid.is_card_number() || grouped.is_card_number()
}

/// A run of digits with both Luhn sums: which digits double depends on the run's length, known only at its end.
#[derive(Default)]
struct Run {
    length: u32,
    doubled_even: u32,
    doubled_odd: u32,
}

impl Run {
    fn push(&mut self, digit: u8) {
        let single = u32::from(digit);
        let double = if single > 4 { single * 2 - 9 } else { single * 2 };
        let (even, odd) =
            if self.length.is_multiple_of(2) { (double, single) } else { (single, double) };
        self.doubled_even += even;
        self.doubled_odd += odd;
        self.length += 1;
    }

    fn is_card_number(&self) -> bool {
        // The last digit never doubles, so with an even length the first one does.
        let sum = if self.length.is_multiple_of(2) { self.doubled_even } else { self.doubled_odd };
        (13..=19).contains(&self.length) && sum.is_multiple_of(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for text in [
            "4242424242424242",
            "card 4242 4242 4242 4242 exp 12/30",
            "4242-4242-4242-4242",
            "378282246310005",
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
            "4242 4242  4242 4242",
            "2026-11-22T15:04:05",
        ] {
            assert!(!contains_card_number(text), "{text}");
        }
    }
}
