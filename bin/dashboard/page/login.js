// The form for the token.

import { offerChoices } from './choices.js';
import { sayAll } from './words.js';

offerChoices(() => sayAll(document.body));
sayAll(document.body);
// The part of the address behind `#` says what to show; it is kept on the way through the form.
document.querySelector('form').action = `/login${location.hash}`;
