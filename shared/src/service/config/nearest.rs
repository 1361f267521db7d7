//! "Did you mean": the setting whose name is nearest to one that does not exist.

use super::Config;

/// The variable that sets `section.key`.
pub(super) fn variable(name: &str) -> String {
    format!("FOOTFALL_{}", name.replace('.', "__").to_uppercase())
}

/// The names of all settings, such as `redis.url`.
pub(super) fn names() -> Vec<String> {
    let sections = Config::default().settings().into_iter();
    let mut names: Vec<String> = sections
        .flat_map(|(section, settings)| settings.into_iter().map(move |setting| setting.name(section)))
        .collect();
    names.sort();
    names
}

/// For a name in a file that is no setting: what may be meant.
pub(super) fn did_you_mean(name: &str) -> String {
    suggest(name, names().into_iter())
}

/// For a variable that sets nothing: what may be meant.
pub(super) fn did_you_mean_variable(name: &str) -> String {
    let suffix = if name.ends_with("_FILE") { "_FILE" } else { "" };
    suggest(name, names().iter().map(|known| variable(known) + suffix))
}

fn suggest(name: &str, known: impl Iterator<Item = String>) -> String {
    let known: Vec<String> = known.collect();
    let inside = [format!("{name}."), format!("{name}__")];
    let of_section: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|known| inside.iter().any(|inside| known.starts_with(inside.as_str())))
        .collect();
    if !of_section.is_empty() {
        return format!(", but a section; its settings are {}", of_section.join(", "));
    }
    match nearest(name, known.iter().map(String::as_str)) {
        Some(known) => format!(": did you mean {known}?"),
        None => "; `footfall check-config` shows all there are".into(),
    }
}

/// The nearest of these names, if one is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The names of variables begin alike, which says nothing.
    let length = name.strip_prefix("FOOTFALL_").unwrap_or(name).chars().count();
    let name = name.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase().replace('-', "_")), known))
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
