package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait for the browser.
const patience = 60 * time.Second

// Tab is one of a Chromium of its own.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string // errors of the console, exceptions and violations of the policy
}

// executable is where Chromium is, or the test is skipped.
func executable(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no chromium to open the page in: test/ui/install-packages.sh installs one")
	return ""
}

// Open starts a Chromium, 1280 pixels wide, and opens an address. Everything is gone when
// the test ends. Without Chromium the test is skipped.
func Open(t testing.TB, address string) *Tab {
	t.Helper()
	path := executable(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocated, free := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(free)
	ctx, cancel := chromedp.NewContext(allocated)
	b := &Tab{t: t, ctx: ctx}
	var listening sync.WaitGroup
	t.Cleanup(func() { chromedp.Cancel(ctx); cancel(); listening.Wait() })
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // its context is that of the browser
		t.Fatal(err)
	}
	said := chromedp.Console(ctx)
	listening.Go(func() {
		for message, err := range said {
			if err != nil {
				return
			}
			b.hear(message)
		}
	})
	b.Size(1280, 800)
	b.Do(chromedp.Navigate(address))
	return b
}

// hear remembers errors, exceptions, and what breaks the Content-Security-Policy.
func (b *Tab) hear(m chromedp.ConsoleMessage) {
	if m.Type != chromedp.ConsoleError && !m.IsException() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, fmt.Sprintf("%s %s %s (%s:%d)", m.Type, m.Source, m.Text, m.URL, m.Line))
}

// Clean fails the test if the browser had anything to complain about.
func (b *Tab) Clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.t.Errorf("the browser complains: %s", c)
	}
}

// Forgive forgets the complaints that a test has caused on purpose.
func (b *Tab) Forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = nil
}

// Do takes steps of chromedp.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// Eval runs an expression in the page.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return answer
}

// Until waits until an expression is true in the page.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; {
		if Eval[bool](b, "Boolean("+expression+")") {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("waited in vain for %s; the page says: %s", expression, b.Text("body"))
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}

// Sees waits until a text is on the page, be its spaces what they may.
func (b *Tab) Sees(text string) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`document.body.innerText.replaceAll('\u00a0', ' ').includes(%q)`, text))
}

// Text is what is seen of an element.
func (b *Tab) Text(selector string) string {
	b.t.Helper()
	return Eval[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// GoTo changes the view as a link does.
func (b *Tab) GoTo(hash string) {
	b.t.Helper()
	Eval[bool](b, fmt.Sprintf("(location.hash = %q, true)", hash))
}

// Size is that of the screen, in pixels.
func (b *Tab) Size(width, height int64) {
	b.t.Helper()
	b.Do(chromedp.EmulateViewport(width, height))
}

// Dark has the system prefer dark or light, and little motion.
func (b *Tab) Dark(dark bool) {
	b.t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	b.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
}

// Shot writes a picture of the whole page into a file.
func (b *Tab) Shot(path string) {
	b.t.Helper()
	var picture []byte
	b.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) (err error) {
		picture, err = chromedp.FullScreenshot(100)(ctx, t) // 100: PNG
		return err
	}))
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
