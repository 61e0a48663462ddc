/** Where the browser keeps the token of whoever is signed in: for every page of this origin. */

const TOKEN_KEY = "chatrelay.token";

/** The stored token; null also where the browser allows no storage. */
export function storedToken() {
  try {
    return localStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

export function storeToken(token) {
  try {
    if (token === null) localStorage.removeItem(TOKEN_KEY);
    else localStorage.setItem(TOKEN_KEY, token);
  } catch {
    // No storage: the token lasts as long as the page.
  }
}
