// Package browser opens pages in a headless Chromium, looks at them and remembers what
// the browser had to complain about.
package browser
