// The form for the token.

import { offerChoices } from './choices.js';
import { sayAll } from './words.js';

offerChoices(() => sayAll(document.body));
sayAll(document.body);
// The part of the address behind `#` says what to show, so it is kept when the form is sent.
document.querySelector('form').action = `/login${location.hash}`;
