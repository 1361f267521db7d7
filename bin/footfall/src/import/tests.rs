use super::*;

fn read_text(text: &str, shards: u16, skip: bool) -> Result<Read> {
    let taken: Arc<AtomicU64> = Arc::default();
    let reader = Reader::open(Source::of(text.as_bytes()), Arc::clone(&taken), None, shards)?;
    read(reader, &std::env::temp_dir(), shards, skip, &taken, Progress::new(None, "byte"))
}

#[test]
fn the_same_lines_are_the_same_import_in_any_order() {
    let producer = |text: &str, shards| read_text(text, shards, false).expect("good").producer;
    let text = "article,user,views\na,u,1\nb,u,1\n";
    assert_eq!(producer(text, 1), producer("views,user,article\r\n1,u,b\r\n1,u,a\r\n", 1));
    assert_ne!(producer(text, 1), producer(text, 2));
    for other in ["a,u,2\nb,u,1\n", "a,u,1\n", "a,u,1\nb,u,1\nb,u,1\n", "au,u,1\nb,u,1\n", "a,uu,1\nb,u,1\n"] {
        assert_ne!(producer(text, 1), producer(&format!("article,user,views\n{other}"), 1), "{other}");
    }
}

#[test]
fn nothing_is_counted_of_a_file_with_bad_lines_unless_asked() {
    let text = format!("article,user,views\na,u,1\n{}", "a,u,x\n".repeat(20));
    let Err(failure) = read_text(&text, 1, false) else { panic!("it is wrong") };
    let said = failure.to_string();
    assert!(said.starts_with("20 lines cannot be understood, nothing was counted (--skip-bad-lines"), "{said}");
    assert_eq!(said.matches("`x`").count(), MISTAKES_SHOWN, "{said}");
    let read = read_text(&text, 1, true).expect("the other line is good");
    assert_eq!((read.records, read.views, read.skipped), (1, 1, 20));
    assert_eq!(left_out(&read), ", left out: 20 lines that cannot be understood");
}

/// The files of which one stopped a shard each.
#[test]
fn counts_above_their_limits_are_refused_with_their_line() {
    let most = footfall_shared::protocol::ROW_VIEWS_MAX;
    let refusal = |views: u64| {
        let text = format!("article,user,views\nfine,u,{most}\nv,u,{views}\n");
        read_text(&text, 1, false).err().map(|failure| failure.to_string())
    };
    assert_eq!(refusal(most), None);
    for views in [most + 1, (1 << 53) - 1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let said = refusal(views).expect("refused");
        assert!(said.contains("line 3") && said.contains(&most.to_string()), "{said}");
    }
    // Each row is within its limit, and they are too many together.
    let text = format!("article,user,views\n{}", format!("a,u,{most}\n").repeat(9_008));
    let Err(failure) = read_text(&text, 1, false) else { panic!("it is too much") };
    let said = failure.to_string();
    assert!(said.contains("9007199254740991 together") && said.contains("nothing was counted"), "{said}");
}

#[test]
fn the_last_line_says_what_became_of_all() {
    let last = |now, before, quarantined| {
        let done = Done { now, before, quarantined };
        report(&done, "3 lines with 9 views", "", true).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(last(9, 0, 0), "3 lines with 9 views counted; the same once more adds nothing");
    assert!(last(0, 9, 0).ends_with("by an earlier run of this import: nothing was counted now"));
    assert!(last(4, 5, 0).starts_with("4 views are counted now"));
    assert!(last(4, 0, 5).starts_with("4 views are counted, 5 views NOT: MySQL refused them"));
    assert!(last(0, 4, 5).starts_with("0 views are counted now, 5 views NOT"), "{}", last(0, 4, 5));
}
