//! Texts with variables: `#{name}님, 예약이 확정되었습니다.`
//!
//! A template is parsed once for a sending and then filled in for each recipient. It keeps two promises: a value is
//! inserted as it is and never read as template, and no `#{` is ever sent, neither from a malformed template (refused
//! when parsed) nor from a value (refused when filled in).
//!
//! The fixed pieces are measured once. Measuring for a recipient then only measures the values, as long as no value
//! can join with its neighbours in normalisation; otherwise the whole text is filled in and measured.

use super::cp949::{Cp949Length, Measurer, Unmappable, bytes_if_simple, measure_normalised};
use super::normalise::{normalise, stands_alone};
use serde::Serialize;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The most different variables that a text may name, as many as a contact has custom fields.
pub const VARIABLES_MAX: usize = 100;

/// The most places in a text where a variable stands. Each of them is filled in for each recipient.
pub const PLACEHOLDERS_MAX: usize = 200;

/// Longest name of a variable, in characters.
pub const VARIABLE_NAME_LENGTH_MAX: usize = 64;

/// The most bytes of a text with its values, before it is normalised, which may make it a third as long. No type
/// takes more than a fifth; a text of 25,000 variables with a value of 100,000 bytes would be gigabytes.
const FILLED_IN_BYTES_MAX: usize = 500_000;

/// A parsed text with variables. A text without any is a template too, and the cheapest to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    variables: Vec<SmolStr>,
    /// The same in the order of their letters, to look for one among thousands.
    variables_sorted: Box<[SmolStr]>,
    literal_length: Result<Cp949Length, Unmappable>,
    literal_utf8_bytes: usize,
    joints: Joints,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Normalised text without `#{`.
    Literal(Box<str>),
    Variable(SmolStr),
}

/// Whether the fixed pieces may stand beside any simple value without changing in normalisation and without
/// forming `#{` with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joints {
    Simple,
    Delicate,
}

/// Why a text is not a template. Serialises with its stable code and its details.
///
/// Positions are indexes in the text as it was given, in characters from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, strum::IntoStaticStr)]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TemplateError {
    /// `#{` without `}`.
    #[error("the variable that begins with #{{ at index {position} has no closing }}")]
    VariableNotClosed {
        /// Where `#{` stands.
        position: usize,
    },
    /// `#{}`.
    #[error("the variable at index {position} has no name")]
    VariableNameEmpty {
        /// Where `#{` stands.
        position: usize,
    },
    /// The name is longer than [`VARIABLE_NAME_LENGTH_MAX`].
    #[error("the name of the variable at index {position} has more than {length_max} characters")]
    VariableNameTooLong {
        /// Where `#{` stands.
        position: usize,
        /// The most characters that a name may have.
        length_max: usize,
    },
    /// The name holds something other than letters, digits, `_` and `-`.
    #[error(
        "the name of a variable may hold letters, digits, _ and -, not {character:?} (at index {position})"
    )]
    VariableNameCharacterNotAllowed {
        /// The first such character.
        character: char,
        /// Where it stands.
        position: usize,
    },
    /// More than [`VARIABLES_MAX`] names.
    #[error("the text names {count} variables; at most {count_max} are allowed")]
    TooManyVariables {
        /// How many.
        count: usize,
        /// The most.
        count_max: usize,
    },
    /// More than [`PLACEHOLDERS_MAX`] places.
    #[error("variables stand in {count} places of the text; at most {count_max} are allowed")]
    TooManyPlaceholders {
        /// How many.
        count: usize,
        /// The most.
        count_max: usize,
    },
}

impl TemplateError {
    /// Stable code for problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

/// Why a template cannot be filled in for a recipient. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RenderError {
    /// The recipient has no value for a variable. An empty value is a value.
    #[error("the variable {name} has no value")]
    MissingVariable {
        /// The name of the variable.
        name: SmolStr,
    },
    /// A value brought `#{` into the text.
    #[error("the text with its values would hold a literal #{{ at index {position}")]
    PlaceholderInResult {
        /// Where in the filled-in text, in characters from 0.
        position: usize,
    },
    /// With its values the text is longer than any type takes.
    #[error("the text with its values has more than {bytes_max} bytes")]
    TooLong {
        /// Most bytes.
        bytes_max: usize,
    },
}

/// Why a template has no length for a recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// It cannot be filled in.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Filled in, it holds characters that CP949 does not have.
    #[error(transparent)]
    Unmappable(#[from] Unmappable),
}

impl Template {
    /// Reads `text`, in which `#{name}` stands for a variable. Spaces around the name are dropped.
    ///
    /// # Errors
    /// [`TemplateError`] says what is malformed and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut position = 0;
        while let Some(start) = rest.find("#{") {
            push_literal(&mut pieces, &rest[..start]);
            position += rest[..start].chars().count();
            let inner = &rest[start + 2..];
            let end = inner.find('}').ok_or(TemplateError::VariableNotClosed { position })?;
            pieces.push(Piece::Variable(parse_name(&inner[..end], position)?));
            position += 3 + inner[..end].chars().count();
            rest = &inner[end + 1..];
        }
        push_literal(&mut pieces, rest);
        Ok(Self::from_pieces(pieces))
    }

    /// Reads a text that comes from outside, with a limit on the number of variables. A text from the log is read by
    /// [`parse`](Self::parse), whatever was allowed when it was written.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and that there are too many variables.
    pub fn parse_bounded(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        let (count, count_max) = (template.variables.len(), VARIABLES_MAX);
        if count > count_max {
            return Err(TemplateError::TooManyVariables { count, count_max });
        }
        let is_variable = |piece: &&Piece| matches!(piece, Piece::Variable(_));
        let (count, count_max) = (template.pieces.iter().filter(is_variable).count(), PLACEHOLDERS_MAX);
        if count > count_max {
            return Err(TemplateError::TooManyPlaceholders { count, count_max });
        }
        Ok(template)
    }

    /// How many bytes filling the text in and measuring it has to read, about: its values, and all of it if a value
    /// may join with its neighbours.
    #[must_use]
    pub fn filling_bytes<'v>(&self, lookup: impl Fn(&str) -> Option<&'v str>) -> usize {
        let mut joints = self.joints;
        let mut bytes = 0;
        for piece in &self.pieces {
            let Piece::Variable(name) = piece else { continue };
            let value = lookup(name).unwrap_or_default();
            bytes += value.len();
            // No more is filled in.
            if bytes > FILLED_IN_BYTES_MAX {
                return bytes;
            }
            if joints == Joints::Simple && !is_simple(value) {
                joints = Joints::Delicate;
            }
        }
        match joints {
            Joints::Simple => bytes,
            Joints::Delicate => bytes + self.literal_utf8_bytes,
        }
    }

    fn from_pieces(pieces: Vec<Piece>) -> Self {
        let mut variables: Vec<SmolStr> = Vec::new();
        let mut known: BTreeSet<SmolStr> = BTreeSet::new();
        let mut measurer = Measurer::default();
        let mut literal_utf8_bytes = 0;
        let mut joints = Joints::Simple;
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Literal(literal) => {
                    measurer.add(literal);
                    literal_utf8_bytes += literal.len();
                    let follows_variable = index > 0;
                    let precedes_variable = index + 1 < pieces.len();
                    let joins_backwards = literal.starts_with(|first| first == '{' || !stands_alone(first));
                    if follows_variable && joins_backwards || precedes_variable && literal.ends_with('#') {
                        joints = Joints::Delicate;
                    }
                }
                Piece::Variable(name) => {
                    measurer.skip("#{}".len() + name.chars().count());
                    if known.insert(name.clone()) {
                        variables.push(name.clone());
                    }
                }
            }
        }
        let variables_sorted = known.into_iter().collect();
        let literal_length = measurer.finish();
        Self { pieces, variables, variables_sorted, literal_length, literal_utf8_bytes, joints }
    }

    /// The names of the variables, each once, in the order of the text.
    #[must_use]
    pub fn variables(&self) -> &[SmolStr] {
        &self.variables
    }

    /// Whether the text has this variable.
    #[must_use]
    pub fn asks_for(&self, name: &str) -> bool {
        self.variables_sorted.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Whether the text is the same for every recipient.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.variables.is_empty()
    }

    /// The normalised text, if it is the same for every recipient.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(literal)] => Some(literal),
            _ => None,
        }
    }

    /// The CP949 length of the fixed pieces: the least that any recipient's text takes.
    ///
    /// # Errors
    /// The characters of the fixed pieces that CP949 does not have: no recipient's text can go out by sms or
    /// lms. Positions are indexes in the normalised template, with `#{name}` written without spaces.
    pub fn literal_length(&self) -> Result<Cp949Length, &Unmappable> {
        self.literal_length.as_ref().copied()
    }

    /// The text for one recipient, normalised.
    ///
    /// # Errors
    /// That a value is missing, or would bring `#{` into the text.
    pub fn render<'v>(&self, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<String, RenderError> {
        let mut text = String::new();
        self.render_into(lookup, &mut text)?;
        Ok(text)
    }

    /// As [`render`](Self::render), into a buffer that is cleared first and may be used again.
    ///
    /// # Errors
    /// As [`render`](Self::render); the buffer then holds no usable text.
    pub fn render_into<'v>(
        &self,
        lookup: impl Fn(&str) -> Option<&'v str>,
        text: &mut String,
    ) -> Result<(), RenderError> {
        text.clear();
        text.reserve(self.literal_utf8_bytes + 16 * self.variables.len());
        let mut room = Room::beside(self.literal_utf8_bytes);
        let mut joints = self.joints;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Variable(name) => {
                    let value = value_of(name, &lookup)?;
                    room.take(value)?;
                    if !is_simple(value) {
                        joints = Joints::Delicate;
                    }
                    text.push_str(value);
                }
            }
        }
        if joints == Joints::Simple {
            return Ok(());
        }
        if let Cow::Owned(normal) = normalise(text) {
            *text = normal;
        }
        match text.find("#{") {
            Some(start) => Err(RenderError::PlaceholderInResult { position: text[..start].chars().count() }),
            None => Ok(()),
        }
    }

    /// Shows every fixed piece and every value, in the order of the text.
    pub(super) fn each_piece<'v>(
        &self,
        lookup: impl Fn(&str) -> Option<&'v str>,
        look: &mut impl FnMut(&str),
    ) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => look(literal),
                Piece::Variable(name) => look(lookup(name).unwrap_or_default()),
            }
        }
    }

    /// The CP949 length of the text for one recipient: that of [`render`](Self::render), without rendering
    /// where that is possible.
    ///
    /// # Errors
    /// That the text cannot be filled in, or holds characters that CP949 does not have.
    pub fn measure<'v>(&self, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<Cp949Length, MeasureError> {
        if let Some(length) = self.measure_values(&lookup)? {
            return Ok(length);
        }
        let text = self.render(lookup)?;
        Ok(measure_normalised(&text)?)
    }

    /// The length as the sum of fixed pieces and values, or nothing where that would not be exact.
    fn measure_values<'v>(
        &self,
        lookup: &impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Option<Cp949Length>, RenderError> {
        let (Ok(literal), Joints::Simple) = (&self.literal_length, self.joints) else {
            return Ok(None);
        };
        let mut bytes = literal.bytes;
        let mut room = Room::beside(self.literal_utf8_bytes);
        for piece in &self.pieces {
            let Piece::Variable(name) = piece else { continue };
            let value = value_of(name, lookup)?;
            room.take(value)?;
            match bytes_if_simple(value) {
                Some(value_bytes) if is_simple(value) => bytes += value_bytes,
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(Cp949Length { bytes }))
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        // `#`, `{` and `}` never change or join in normalisation, so the pieces may be normalised one by one.
        pieces.push(Piece::Literal(normalise(text).into()));
    }
}

fn parse_name(written: &str, position: usize) -> Result<SmolStr, TemplateError> {
    let name = written.trim();
    if name.is_empty() {
        return Err(TemplateError::VariableNameEmpty { position });
    }
    // A letter may be written with a combining mark (NFD); it is composed before it is judged.
    let composed = normalise(name);
    if !composed.chars().all(is_name_character) {
        let leading = written.chars().take_while(|character| character.is_whitespace()).count();
        let (index, character) = first_offender(name);
        let position = position + 2 + leading + index;
        return Err(TemplateError::VariableNameCharacterNotAllowed { character, position });
    }
    let name = composed;
    if name.chars().count() > VARIABLE_NAME_LENGTH_MAX {
        return Err(TemplateError::VariableNameTooLong { position, length_max: VARIABLE_NAME_LENGTH_MAX });
    }
    Ok(SmolStr::new(name))
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

/// The first character of a name, as it was written, that is not allowed, and its index. A letter and its marks are
/// judged together: the first of them that is not a letter by itself is reported.
fn first_offender(name: &str) -> (usize, char) {
    let characters: Vec<char> = name.chars().collect();
    let mut start = 0;
    while start < characters.len() {
        let marks = characters[start + 1..].iter().take_while(|mark| is_combining_mark(**mark)).count();
        let letter = &characters[start..=start + marks];
        if !letter.iter().copied().nfc().all(is_name_character) {
            let offender = letter.iter().position(|character| !is_name_character(*character)).unwrap_or(0);
            return (start + offender, letter[offender]);
        }
        start += letter.len();
    }
    (0, characters.first().copied().unwrap_or_default())
}

/// What is left for values in a text.
struct Room(usize);

impl Room {
    fn beside(literal_bytes: usize) -> Self {
        Self(FILLED_IN_BYTES_MAX.saturating_sub(literal_bytes))
    }

    fn take(&mut self, value: &str) -> Result<(), RenderError> {
        let too_long = RenderError::TooLong { bytes_max: FILLED_IN_BYTES_MAX };
        self.0 = self.0.checked_sub(value.len()).ok_or(too_long)?;
        Ok(())
    }
}

fn value_of<'v>(name: &SmolStr, lookup: &impl Fn(&str) -> Option<&'v str>) -> Result<&'v str, RenderError> {
    lookup(name).ok_or_else(|| RenderError::MissingVariable { name: name.clone() })
}

/// Whether a value neither joins with its neighbours nor can be part of `#{`.
fn is_simple(value: &str) -> bool {
    value.chars().all(|character| stands_alone(character) && !matches!(character, '#' | '{'))
}

#[cfg(test)]
mod tests {
    use super::super::measure;
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Template {
        Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn with<'v>(values: &'v [(&'v str, &'v str)]) -> impl Fn(&str) -> Option<&'v str> {
        move |name| values.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    #[test]
    fn a_text_from_outside_has_few_variables_and_one_in_the_log_may_have_any_number() {
        let names = |count: usize| (0..count).map(|number| format!("#{{v{number}}}")).collect::<String>();
        assert!(Template::parse_bounded(&names(VARIABLES_MAX)).is_ok());
        let refused = Template::parse_bounded(&names(14_000)).unwrap_err();
        assert_eq!(refused, TemplateError::TooManyVariables { count: 14_000, count_max: 100 });
        assert_eq!(refused.code(), "too_many_variables");
        let repeated = "#{name}".repeat(PLACEHOLDERS_MAX + 1);
        let refused = Template::parse_bounded(&repeated).unwrap_err();
        assert_eq!(refused, TemplateError::TooManyPlaceholders { count: 201, count_max: 200 });
        assert_eq!(Template::parse(&names(14_000)).unwrap().variables().len(), 14_000);
    }

    #[test]
    fn what_has_to_be_gone_through_counts_wherever_it_stands() {
        let template = Template::parse("#{a} and #{a} and #{b}").unwrap();
        let simple = |name: &str| if name == "a" { Some("xx") } else { None };
        assert_eq!(template.filling_bytes(simple), 4);
        let delicate = |name: &str| (name == "b").then_some("\u{301}");
        assert_eq!(template.filling_bytes(delicate), 2 + " and  and ".len());
        let long = "x".repeat(FILLED_IN_BYTES_MAX);
        assert!(template.filling_bytes(|_| Some(&long)) <= 2 * FILLED_IN_BYTES_MAX);
    }

    #[test]
    fn fills_in_each_variable_literally() {
        let template = parse("#{ 이름 }님 #{item-1}, #{이름}님!\r\n끝 # } {");
        assert_eq!(template.variables(), ["이름", "item-1"]);
        assert!(template.asks_for("이름") && template.asks_for("item-1") && !template.asks_for("item"));
        assert!(!template.is_literal());
        let text = template.render(with(&[("이름", "홍길동"), ("item-1", "50% }$1\\n")])).unwrap();
        assert_eq!(text, "홍길동님 50% }$1\\n, 홍길동님!\n끝 # } {");
    }

    #[test]
    fn a_long_value_in_many_places_is_refused_before_it_is_filled_in() {
        let template = parse(&"#{a}".repeat(25_000));
        let too_long = RenderError::TooLong { bytes_max: 500_000 };
        for value in ["x".repeat(100_000), "각".repeat(33_000)] {
            let value = value.as_str();
            assert_eq!(template.render(with(&[("a", value)])), Err(too_long.clone()));
            assert_eq!(template.measure(with(&[("a", value)])), Err(too_long.clone().into()));
        }
        let at_most = "x".repeat(20);
        assert_eq!(template.render(with(&[("a", &at_most)])).unwrap().len(), 500_000);
        assert_eq!(template.measure(with(&[("a", &at_most)])).unwrap().bytes, 500_000);
        let longer = [("a", at_most.as_str()), ("b", "y")];
        let template = parse(&("#{a}".repeat(25_000) + "#{b}"));
        assert_eq!(template.render(with(&longer)), Err(too_long.clone()));
        assert_eq!(template.measure(with(&longer)), Err(too_long.into()));
    }

    #[test]
    fn a_text_without_variables_is_a_literal() {
        let template = parse("그냥\r\n글");
        assert_eq!(template.as_literal(), Some("그냥\n글"));
        assert_eq!(template.literal_length(), Ok(Cp949Length { bytes: 7 }));
        assert_eq!(template.render(with(&[])).unwrap(), "그냥\n글");
        assert_eq!(parse("").as_literal(), Some(""));
        assert_eq!(parse("#{a}").as_literal(), None);
    }

    #[test]
    fn malformed_variables_are_refused_with_their_position() {
        use TemplateError as E;
        let long = format!("가#{{{}}}", "a".repeat(65));
        let cases = [
            ("안녕 #{name", E::VariableNotClosed { position: 3 }),
            ("#{", E::VariableNotClosed { position: 0 }),
            ("a#{}", E::VariableNameEmpty { position: 1 }),
            ("a#{  }", E::VariableNameEmpty { position: 1 }),
            ("#{a}#{ b c}", E::VariableNameCharacterNotAllowed { character: ' ', position: 8 }),
            ("#{#{a}}", E::VariableNameCharacterNotAllowed { character: '#', position: 2 }),
            ("#{a.b}", E::VariableNameCharacterNotAllowed { character: '.', position: 3 }),
            // The place is that in the text as it was written, whatever composing does to what is before it.
            ("#{e\u{301}!}", E::VariableNameCharacterNotAllowed { character: '!', position: 4 }),
            ("#{x\u{301}}", E::VariableNameCharacterNotAllowed { character: '\u{301}', position: 3 }),
            ("#{\u{958}!}", E::VariableNameCharacterNotAllowed { character: '\u{958}', position: 2 }),
            (long.as_str(), E::VariableNameTooLong { position: 1, length_max: 64 }),
        ];
        for (text, error) in cases {
            assert_eq!(serde_json::to_value(&error).unwrap()["code"], error.code());
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_missing_value_is_refused_and_an_empty_one_is_not() {
        let template = parse("#{a}/#{b}");
        let missing = RenderError::MissingVariable { name: "b".into() };
        assert_eq!(template.render(with(&[("a", "1")])), Err(missing.clone()));
        assert_eq!(template.measure(with(&[("a", "1")])), Err(MeasureError::Render(missing)));
        assert_eq!(template.render(with(&[("a", ""), ("b", "")])).unwrap(), "/");
    }

    #[test]
    fn no_placeholder_goes_out_from_a_value_or_across_a_joint() {
        let cases = [
            ("가 #{a}", "#{x}", 2),
            ("#{a}", "only #{", 5),
            ("#{a}{x}", "#", 0),
            ("##{a}", "{x}", 0),
            ("##{a}{x}", "", 0),
        ];
        for (text, value, position) in cases {
            let template = parse(text);
            let error = RenderError::PlaceholderInResult { position };
            assert_eq!(template.render(with(&[("a", value)])), Err(error.clone()), "{text}");
            assert_eq!(template.measure(with(&[("a", value)])), Err(MeasureError::Render(error)), "{text}");
        }
    }

    #[test]
    fn values_join_with_their_neighbours() {
        let cases = [
            ("가#{a}", "\u{11A8}", "각", 2),
            ("#{a}\u{11A8}", "가", "각", 2),
            ("#{a}\n", "x\r", "x\n", 2),
            ("#{a}#{b}", "\r", "\n", 1),
        ];
        for (text, value, rendered, bytes) in cases {
            let values = [("a", value), ("b", "\n")];
            let template = parse(text);
            assert_eq!(template.render(with(&values)).unwrap(), rendered, "{text}");
            assert_eq!(template.measure(with(&values)).unwrap().bytes, bytes, "{text}");
        }
    }

    #[test]
    fn an_emoji_in_a_name_is_found_at_its_place_in_the_filled_in_text() {
        let error = parse("안녕 #{name}님").measure(with(&[("name", "김😀")])).unwrap_err();
        let MeasureError::Unmappable(unmappable) = error else { panic!("{error}") };
        assert_eq!((unmappable.characters[0].character, unmappable.characters[0].position), ('😀', 4));
    }

    #[test]
    fn unmappable_fixed_text_is_known_before_any_recipient() {
        let template = parse("#{ 이름 }님 ₩1,000");
        let unmappable = template.literal_length().unwrap_err();
        assert_eq!((unmappable.characters[0].character, unmappable.characters[0].position), ('₩', 7));
    }

    proptest! {
        #[test]
        fn measuring_equals_measuring_the_rendered_text(
            pieces in proptest::collection::vec("[a-c가-갃\\u{1161}\\u{11A8}\\u{301}#{\r\n₩·]{0,3}", 1..5),
            value in "[a-c가-갃\\u{1161}\\u{11A8}\\u{301}#{\r\n₩·]{0,3}",
        ) {
            if let Ok(template) = Template::parse(&pieces.join("#{v}")) {
                let lookup = |_: &str| Some(value.as_str());
                match template.render(lookup) {
                    Ok(text) => {
                        prop_assert!(text.find("#{").is_none(), "a placeholder went out");
                        prop_assert_eq!(normalise(&text), text.as_str());
                        let measured = measure(&text).map_err(MeasureError::Unmappable);
                        prop_assert_eq!(template.measure(lookup), measured);
                    }
                    Err(error) => {
                        prop_assert_eq!(template.measure(lookup), Err(MeasureError::Render(error)));
                    }
                }
            }
        }

        #[test]
        fn rendering_is_substitution_and_normalisation(value in "[^#{]{0,12}") {
            let text = parse("가 #{v}\n#{v}나").render(|_| Some(value.as_str())).unwrap();
            let substituted = format!("가 {value}\n{value}나");
            prop_assert_eq!(text, normalise(&substituted));
        }

        #[test]
        fn no_text_panics(text in "[#{} a가\\u{301}\r]{0,20}", value in any::<String>()) {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.render(|_| Some(value.as_str()));
                prop_assert_eq!(template.is_literal(), template.as_literal().is_some());
            }
        }
    }
}
