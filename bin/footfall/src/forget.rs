//! `footfall forget`: deletes articles, such as those that a flood has left.

use std::process::ExitCode;

use footfall_shared::mysql::{COUNTED_MAX, Fences, Forgotten, Store, Which};
use footfall_shared::protocol::Article;
use footfall_shared::service::config::Config;
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;
use crate::terminal::{confirm, count, print};
use crate::{DIFFERENCE_FOUND, Result};

/// Deletes articles for good, with their readers and hours: what a flood has left
///
/// Services may run meanwhile. The articles go part by part, and every part is whole: interrupted, the command has forgotten
/// what it had come to, and a repeat goes on. Users who have read nothing else go too. The views stay in the books as
/// dropped, as those that were dropped from quarantine, so `footfall verify` stays right; but a ledger that knows of these
/// articles misses them.
///
/// Views that still wait in Redis or in a journal, and those that come later, are counted afterwards as new: stop the flood
/// first. The site's views per minute stay, for they do not say of which article they are. Logs that were set aside in Redis
/// stay too (`footfall quarantine list`). The exit code is 1 if there was nothing of the kind.
#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("which").required(true)),
    after_help = "Example: forget what a flood of names like flood-1, flood-2 has left\n  footfall forget --prefix flood-"
)]
pub(crate) struct Args {
    /// The article of exactly this name
    #[arg(long, value_name = "A", group = "which")]
    article: Option<String>,
    /// All articles whose name begins so
    #[arg(long, value_name = "P", group = "which")]
    prefix: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Args {
    fn which(&self) -> Result<Which> {
        match (&self.article, &self.prefix) {
            (Some(article), _) => {
                let article = Article::parse(article.as_bytes());
                article.map(Which::Article).map_err(|error| Failure::Usage(format!("--article: {error}")))
            }
            (None, Some(prefix)) if !prefix.is_empty() => Ok(Which::Prefix(prefix.clone().into_bytes())),
            _ => Err(Failure::Usage(
                "--prefix is empty, which every name begins with: `footfall clean` deletes all counts, if that is meant".into(),
            )),
        }
    }

    fn named(&self) -> String {
        match (&self.article, &self.prefix) {
            (Some(article), _) => format!("the article {article}"),
            (_, prefix) => format!("articles that begin with {}", prefix.as_deref().unwrap_or_default()),
        }
    }
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let (which, named) = (args.which()?, args.named());
    let store = Store::new(&config.database).await?;
    store.check_schema(config.shards.get()).await?;
    let (articles, quarantined) = store.forgettable(&which).await?;
    if articles == 0 && quarantined == 0 {
        print(&format!("NOT FOUND: {named}, in {}; nothing was forgotten\n", config.database.url))?;
        return Ok(ExitCode::from(DIFFERENCE_FOUND));
    }
    let or_more = if articles >= u64::from(COUNTED_MAX) { " or more" } else { "" };
    let question = format!(
        "Delete {named} from {}, for good: {}{or_more} and {} in quarantine?",
        config.database.url,
        count(articles, "article"),
        count(quarantined, "row")
    );
    confirm(&question, "nothing was forgotten", args.yes).await?;

    let style = ProgressStyle::with_template("{spinner} {human_pos} readers forgotten, {elapsed}");
    let bar = ProgressBar::no_length().with_style(style.expect("the template is valid"));
    let mut all = Forgotten::default();
    let result = store.forget(&which, config.shards.get(), |part| {
        all.add(part);
        bar.set_position(all.readers);
    });
    let result = result.await;
    bar.finish_and_clear();
    let Forgotten { articles, readers, users, views } = all;
    let what = format!(
        "{}, {}, {}; {} had read nothing else",
        count(articles, "article"),
        count(readers, "reader"),
        count(views, "view"),
        count(users, "user")
    );
    match result {
        Ok(()) => print(&format!("forgotten: {what}\n"))?,
        Err(error) => {
            let done = format!("Forgotten until then: {what}. Repeat the command when that is mended");
            return Err(Failure::from(error).with(&done));
        }
    }
    Ok(ExitCode::SUCCESS)
}
