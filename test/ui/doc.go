// Package ui tests the page of usher ui with a real usher behind it, in a real browser: it
// runs usher demo, opens the address that it prints, and clicks through every view while
// connections come and go. Without Chromium it is skipped (install-packages.sh).
//
// The pages with invented data, and what they must never show, are tested in
// proxier/admin/ui.
package ui
