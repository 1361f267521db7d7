// The form for the token.

import { offerChoices } from './choices.js';
import { sayAll } from './words.js';

offerChoices(() => sayAll(document.body));
sayAll(document.body);
