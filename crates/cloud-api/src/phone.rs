//! Phone numbers: from what people type to E.164, with a reason for every refusal.
//!
//! Two questions are kept apart. Is this a phone number with a country code that exists? If not it is refused. Does it
//! look like a number of that country? Numbering plans change faster than anybody's copy of them, so a "no" is only
//! reported ([`Parsed::plausible`]); Meta decides. What E.164 is: ITU-T E.164; plans: Google's libphonenumber.
//!
//! Digits are never rewritten, with one exception: a national prefix that does not belong after a country code, as in
//! `+44 (0)20 …`, is dropped when the number makes sense without it and none with it. Meta itself matches the spellings
//! that Brazil, Mexico and Argentina have for one telephone.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};
use std::fmt;
use std::sync::LazyLock;

/// Fewest digits of an international number.
const MIN_DIGITS: usize = 7;
/// Most digits of an international number (ITU-T E.164).
const MAX_DIGITS: usize = 15;

/// A phone number in E.164 form: `+` and 7 to 15 digits. A small value, copied freely.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber {
    /// `+` and the digits, zeros behind them.
    text: [u8; 1 + MAX_DIGITS],
    length: u8,
}

/// What [`PhoneNumber::parse`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The number.
    pub number: PhoneNumber,
    /// False when the number does not look like one of its country: too short, too long, or in no known range.
    pub plausible: bool,
}

/// Why a text is not a phone number. The messages contain no digits of it, so that they may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Nothing there, or only separators.
    #[error("the phone number is empty")]
    Empty,
    /// No `+` at the front.
    #[error("the phone number does not begin with +; write it as + and country code, for example +14155552671")]
    NoPlus,
    /// `00` at the front.
    #[error("the phone number begins with 00 instead of +; write + and country code, for example +14155552671")]
    DoubleZero,
    /// A letter or another character that has no place in a number.
    #[error("the phone number contains {0:?}; only digits, spaces, hyphens, dots and parentheses may follow the +")]
    BadCharacter(char),
    /// `+0…`.
    #[error("no country code begins with 0")]
    LeadingZero,
    /// Fewer than 7 digits.
    #[error("the phone number has only {0} digits; international numbers have 7 to 15")]
    TooShort(usize),
    /// More than 15 digits.
    #[error("the phone number has more than 15 digits; international numbers have 7 to 15")]
    TooLong,
    /// A country code that is not assigned.
    #[error("no country has a code that begins like this number (+{0}…)")]
    UnknownCountry(u16),
}

impl PhoneNumber {
    /// Reads an international number. Spaces of every kind, hyphens, dots, parentheses and invisible direction marks are
    /// ignored wherever they stand.
    ///
    /// # Errors
    /// [`PhoneError`] says what is wrong, in plain words.
    pub fn parse(text: &str) -> Result<Parsed, PhoneError> {
        let number = Self::read(text)?;
        let code = number.country_code()?;
        if plausible(code, number.national(code)) {
            return Ok(Parsed { number, plausible: true });
        }
        // Only numbers that make no sense as they are get the slow and thorough reading.
        Ok(match number.without_national_prefix() {
            Some(number) => Parsed { number, plausible: true },
            None => Parsed { number, plausible: false },
        })
    }

    /// The number as `+` and digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// ISO 3166 code of the country, as far as the digits tell. `None` for satellites and other numbers without a country,
    /// and where several countries share a code and the number looks like none of them.
    #[must_use]
    pub fn region(&self) -> Option<String> {
        let code = self.country_code().ok()?;
        PHONE_NUMBER_UTIL
            .get_region_for_number(&library_number(code, self.national(code))?)
            .filter(|region| *region != Region::World)
            .map(|region| region.to_string())
    }

    /// Separators dropped, everything that can be said without numbering plans checked.
    fn read(text: &str) -> Result<Self, PhoneError> {
        let mut number = Self { text: [0; 1 + MAX_DIGITS], length: 0 };
        let mut digits = 0;
        let mut plus = false;
        for character in text.chars().filter(|character| !is_separator(*character)) {
            match character {
                '+' if !plus && digits == 0 => plus = true,
                '0'..='9' => {
                    digits += 1;
                    if let (Some(place), Ok(digit)) = (number.text.get_mut(digits), u8::try_from(character)) {
                        *place = digit;
                    }
                }
                other => return Err(PhoneError::BadCharacter(other)),
            }
        }
        match (plus, number.text[1], number.text[2]) {
            (false, 0, _) => Err(PhoneError::Empty),
            (false, b'0', b'0') => Err(PhoneError::DoubleZero),
            (false, ..) => Err(PhoneError::NoPlus),
            (true, b'0', _) => Err(PhoneError::LeadingZero),
            (true, ..) if digits < MIN_DIGITS => Err(PhoneError::TooShort(digits)),
            (true, ..) if digits > MAX_DIGITS => Err(PhoneError::TooLong),
            (true, ..) => {
                number.text[0] = b'+';
                number.length = u8::try_from(1 + digits).unwrap_or(0);
                Ok(number)
            }
        }
    }

    /// The country calling code: 55 for Brazil; 1 for the United States, Canada and others that share it.
    #[must_use]
    pub fn calling_code(&self) -> Option<u16> {
        self.country_code().ok()
    }

    /// The country code. No code is the beginning of another, so the first that fits is the one.
    fn country_code(&self) -> Result<u16, PhoneError> {
        let mut code = 0;
        for digit in self.as_str().bytes().skip(1).take(3) {
            code = code * 10 + u16::from(digit.wrapping_sub(b'0'));
            if COUNTRY_CODES.contains(code) {
                return Ok(code);
            }
        }
        Err(PhoneError::UnknownCountry(code))
    }

    /// The digits after the country code.
    fn national(&self, code: u16) -> &str {
        let digits = match code {
            0..10 => 1,
            10..100 => 2,
            _ => 3,
        };
        self.as_str().get(1 + digits..).unwrap_or_default()
    }

    /// libphonenumber's own reading, if it makes a sensible number of it.
    fn without_national_prefix(&self) -> Option<Self> {
        let parsed = PHONE_NUMBER_UTIL.parse(self.as_str(), None).ok()?;
        if !PHONE_NUMBER_UTIL.is_valid_number(&parsed) {
            return None;
        }
        Self::read(&PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164)).ok()
    }
}

/// Reads the numbering plans (about 7 ms, 5 MB), which otherwise happens with the first number. Worth calling where many
/// processes are forked from this one.
pub fn warm_up() {
    LazyLock::force(&COUNTRY_CODES);
}

/// Whether the digits after a country code look like a number of that country.
fn plausible(code: u16, national: &str) -> bool {
    library_number(code, national).is_some_and(|number| PHONE_NUMBER_UTIL.is_valid_number(&number))
}

/// The library's form of a number, without its parser, which costs five times the check itself.
fn library_number(code: u16, national: &str) -> Option<rlibphonenumber::PhoneNumber> {
    let zeros = national.bytes().take_while(|digit| *digit == b'0').count();
    Some(rlibphonenumber::PhoneNumber {
        country_code: i32::from(code),
        national_number: national.parse().ok()?,
        italian_leading_zero: (zeros > 0).then_some(true),
        number_of_leading_zeros: (zeros > 1).then(|| i32::try_from(zeros).ok()).flatten(),
        ..Default::default()
    })
}

/// Which of the numbers below 1,000 are country codes.
struct CountryCodes([bool; 1000]);

impl CountryCodes {
    fn contains(&self, code: u16) -> bool {
        self.0.get(usize::from(code)).copied().unwrap_or(false)
    }
}

static COUNTRY_CODES: LazyLock<CountryCodes> = LazyLock::new(|| {
    let mut codes = [false; 1000];
    let networks = PHONE_NUMBER_UTIL.get_supported_global_network_calling_codes();
    for code in PHONE_NUMBER_UTIL.get_supported_calling_codes().chain(networks) {
        if let Some(known) = usize::try_from(code).ok().and_then(|code| codes.get_mut(code)) {
            *known = true;
        }
    }
    CountryCodes(codes)
});

/// What people put between digits, and the invisible direction marks that come with numbers copied from an address book.
fn is_separator(character: char) -> bool {
    matches!(
        character,
        '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}'
    ) || character.is_whitespace()
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for PhoneNumber {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> String {
        PhoneNumber::parse(text).unwrap().number.to_string()
    }

    fn plausible(text: &str) -> bool {
        PhoneNumber::parse(text).unwrap().plausible
    }

    #[test]
    fn separators_of_every_kind_are_dropped() {
        for text in [
            "+14155552671",
            "+1 415 555 2671",
            "+1 (415) 555-2671",
            "  +1.415.555.2671\t",
            "(+1) 415-555-2671",
            "+1\u{a0}415\u{202f}555\u{2009}2671",
            "\u{202a}+1\u{2011}415\u{2013}555\u{2212}2671\u{202c}",
        ] {
            assert_eq!(number(text), "+14155552671", "{text}");
        }
    }

    #[test]
    fn every_refusal_has_its_own_reason() {
        let cases = [
            ("", PhoneError::Empty),
            (" \u{a0}-() ", PhoneError::Empty),
            ("14155552671", PhoneError::NoPlus),
            ("0014155552671", PhoneError::DoubleZero),
            ("+0987654321", PhoneError::LeadingZero),
            ("+", PhoneError::TooShort(0)),
            ("+1 415 5", PhoneError::TooShort(5)),
            ("+1234567890123456", PhoneError::TooLong),
            ("+1415555CALL", PhoneError::BadCharacter('C')),
            ("+1 415 555 2671 ext 5", PhoneError::BadCharacter('e')),
            ("+1+4155552671", PhoneError::BadCharacter('+')),
            ("+1415555267\u{0661}", PhoneError::BadCharacter('\u{0661}')),
            ("+1/415/555/2671", PhoneError::BadCharacter('/')),
            ("+999123456789", PhoneError::UnknownCountry(999)),
            ("+2101234567", PhoneError::UnknownCountry(210)),
        ];
        for (text, error) in cases {
            assert_eq!(PhoneNumber::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn reasons_are_plain_words() {
        assert_eq!(PhoneNumber::parse("+0987654321").unwrap_err().to_string(), "no country code begins with 0");
        assert!(PhoneNumber::parse("5551234").unwrap_err().to_string().contains("+14155552671"));
        assert!(PhoneNumber::parse("+12").unwrap_err().to_string().contains("only 2 digits"));
    }

    #[test]
    fn numbers_that_only_look_unlikely_are_taken_as_they_are() {
        for text in ["+15551234567", "+5215512345678", "+551187654321", "+541523456789", "+7701123456", "+390000000"] {
            let parsed = PhoneNumber::parse(text).unwrap();
            assert_eq!(parsed.number.as_str(), text);
            assert!(!parsed.plausible, "{text}");
        }
    }

    #[test]
    fn a_national_prefix_behind_the_country_code_is_dropped() {
        assert_eq!(number("+44 (0)20 7183 8750"), "+442071838750");
        assert_eq!(number("+49 (0) 1512 3456789"), "+4915123456789");
        assert!(plausible("+44 (0)20 7183 8750"));
    }

    #[test]
    fn a_leading_zero_that_belongs_to_the_number_stays() {
        assert_eq!(number("+39 06 1234 5678"), "+390612345678");
        assert!(plausible("+39 06 1234 5678"));
    }

    #[test]
    fn the_region_is_told_apart_where_countries_share_a_code() {
        let region = |text: &str| PhoneNumber::parse(text).unwrap().number.region();
        for (text, expected) in [
            ("+14155552671", "US"),
            ("+14165550123", "CA"),
            ("+18095551234", "DO"),
            ("+17875551234", "PR"),
            ("+77011234567", "KZ"),
            ("+79161234567", "RU"),
            ("+442071838750", "GB"),
            ("+5511987654321", "BR"),
            ("+390612345678", "IT"),
        ] {
            assert_eq!(region(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(region("+870773111632"), None);
        assert_eq!(region("+15551234567"), None);
    }

    #[test]
    fn example_numbers_of_every_country_are_read_as_the_library_reads_them() {
        let mut seen = 0;
        for region in PHONE_NUMBER_UTIL.get_supported_regions() {
            let Ok(example) = PHONE_NUMBER_UTIL.get_example_number(region) else {
                continue;
            };
            let text = PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::International).into_owned();
            let parsed = PhoneNumber::parse(&text).unwrap();
            assert!(parsed.plausible, "{text}");
            assert_eq!(parsed.number.as_str(), PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::E164), "{text}");
            seen += 1;
        }
        assert!(seen > 230, "only {seen} examples");
    }

    #[test]
    fn a_number_is_small_and_pads_in_columns() {
        assert!(size_of::<PhoneNumber>() <= 24);
        assert_eq!(format!("{:>14}|", PhoneNumber::parse("+14155552671").unwrap().number), "  +14155552671|");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = PhoneNumber::parse(&text);
        }

        #[test]
        fn what_is_accepted_is_e164_and_reads_as_itself(text in "[+0-9 ().-]{0,24}") {
            if let Ok(parsed) = PhoneNumber::parse(&text) {
                let shown = parsed.number.as_str();
                prop_assert!(shown.starts_with('+') && !shown.starts_with("+0"));
                prop_assert!((7..=15).contains(&(shown.len() - 1)));
                prop_assert!(shown[1..].bytes().all(|byte| byte.is_ascii_digit()));
                prop_assert_eq!(PhoneNumber::parse(shown), Ok(parsed));
            }
        }

        #[test]
        fn separators_never_change_the_number(digits in "[1-9][0-9]{6,14}", cuts in prop::collection::vec((0_usize..16, "[ ().\u{a0}-]{1,3}"), 0..6)) {
            let plain = format!("+{digits}");
            let mut dressed = plain.clone();
            for (at, separator) in cuts {
                dressed.insert_str(dressed.char_indices().map(|(index, _)| index).nth(at).unwrap_or(0), &separator);
            }
            prop_assert_eq!(PhoneNumber::parse(&dressed), PhoneNumber::parse(&plain));
        }

        #[test]
        fn plausibility_agrees_with_the_librarys_own_parser(digits in "(1|7|44|49|52|54|55|39|91|234|971)[0-9]{6,11}") {
            let text = format!("+{digits}");
            let ours = PhoneNumber::parse(&text).unwrap();
            let theirs = PHONE_NUMBER_UTIL.parse(&text, None);
            if theirs.is_ok_and(|number| PHONE_NUMBER_UTIL.is_valid_number(&number)) {
                prop_assert!(ours.plausible, "{text}");
            }
        }
    }
}
