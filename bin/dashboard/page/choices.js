// What a person chose in this browser: the language, and light or dark.

export const LANGUAGES = ['en', 'zh-CN'];

// localStorage may throw, for instance where the user blocks it.
function recall(name) {
  try {
    return localStorage.getItem(`footfall.${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`footfall.${name}`, value);
  } catch {
    // Then the choice holds until the page is left.
  }
}

const preferred = navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag)) ?? 'en';
const remembered = recall('language');
let chosen = LANGUAGES.includes(remembered) ? remembered : LANGUAGES.find((tag) => tag.slice(0, 2) === preferred.slice(0, 2).toLowerCase());

export const language = () => chosen;

// Makes the two switches of the header work. `changed` is called after the language is another one.
export function offerChoices(changed) {
  const button = document.getElementById('language');
  const showLanguage = () => {
    const other = LANGUAGES.find((tag) => tag !== chosen);
    document.documentElement.lang = chosen;
    // The name of the other language, in that language: whoever needs it can read it.
    button.lang = other;
    button.textContent = { 'en': 'English', 'zh-CN': '中文' }[other];
  };
  button.addEventListener('click', () => {
    chosen = LANGUAGES.find((tag) => tag !== chosen);
    remember('language', chosen);
    showLanguage();
    changed();
  });
  showLanguage();

  const theme = document.getElementById('theme');
  const showTheme = () => { document.documentElement.dataset.theme = theme.value; };
  theme.value = ['light', 'dark'].includes(recall('theme')) ? recall('theme') : 'auto';
  theme.addEventListener('change', () => {
    remember('theme', theme.value);
    showTheme();
  });
  showTheme();
}
