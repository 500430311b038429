// Package browser opens pages in a headless Chromium for a test, looks at them and remembers
// what the browser had to complain about: errors, exceptions, and whatever breaks the
// Content-Security-Policy.
//
//	tab := browser.Open(t, address)
//
// A test without Chromium is skipped: test/ui/install-packages.sh installs one.
package browser
