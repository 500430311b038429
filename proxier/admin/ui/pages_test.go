package ui

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/usher-proxy/usher/test/browser"
)

// views are all that the page has, and something that is seen of each once it has data.
var views = []struct{ name, hash, sees string }{
	{"overview", "/overview", "client_reset"},
	{"services", "/services", "team-03"},
	{"service", "/service/shop/web", "Nothing is sent"},
	{"flows", "/flows", "no_endpoints"},
	{"map", "/map", "The same as a table"},
	{"rules", "/rules", "missing in table nat"},
	{"connections", "/connections", "half-closed"},
	{"sessions", "/connections/udp", "kube-system/kube-dns"},
}

// Each view shows what there is, in the wide and in the narrow, and nothing is broken.
func TestEveryView(t *testing.T) {
	_, b := opened(t, 40)
	for _, width := range []int64{1280, 380} {
		b.Size(width, 800)
		for _, v := range views {
			b.GoTo(v.hash)
			b.Sees(v.sees)
			if wide := browser.Eval[int64](b, "document.scrollingElement.scrollWidth"); wide > width {
				t.Errorf("%s is %d wide on a screen of %d", v.name, wide, width)
			}
			if n := browser.Eval[int](b, "document.querySelectorAll('h1').length"); n != 1 {
				t.Errorf("%s has %d headings", v.name, n)
			}
			if unnamed := browser.Eval[string](b, nameless); unnamed != "" {
				t.Errorf("%s has controls without a name: %s", v.name, unnamed)
			}
		}
	}
	b.Clean()
}

// nameless are what can be focused but is not called anything.
const nameless = `[...document.querySelectorAll('a, button, input, [tabindex="0"]')]
	.filter(e => !(e.ariaLabel || e.getAttribute('aria-labelledby') || e.innerText?.trim() || e.labels?.length || e.title)).map(e => e.outerHTML).join()`

// Names are text: they run nothing, and hide or turn nothing beside them.
func TestNamesAreText(t *testing.T) {
	_, b := opened(t, 5)
	shown := `<script>alert(1)</script>\u{1b}[31m\u{202e}`
	for _, hash := range []string{"/overview", "/services", "/flows", "/map", "/service/shop/" + evilPath} {
		b.GoTo(hash)
		b.Sees(shown)
		if n := browser.Eval[int](b, "document.querySelectorAll('main script').length"); n != 0 {
			t.Errorf("%s has %d scripts of its own", hash, n)
		}
	}
	if strings.ContainsAny(b.Text("body"), "\x1b\u202e") {
		t.Error("control characters are on the page")
	}
	b.Clean()
}

const evilPath = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%1B%5B31m%E2%80%AE"

// What needs attention leads to its Service.
func TestFromAttentionToTheService(t *testing.T) {
	_, b := opened(t, 5)
	b.Sees("17 connections were refused")
	b.Do(chromedp.Click(chromedp.CSS(".attention li:nth-child(2) a")))
	b.Sees("Endpoints: 3 of 4 in use")
	b.Sees("has refused 5 connections in a row")
	b.Sees("2.5 ms") // the p99 in the picture
	if got := browser.Eval[string](b, "document.querySelector('.way svg').getAttribute('aria-label')"); !strings.Contains(got, "Service address 10.96.0.1:80, then Rule iptables") || !strings.Contains(got, "endpoint web-7d9f-4 out") {
		t.Errorf("the picture tells %q", got)
	}
	b.Do(chromedp.SendKeys(chromedp.CSS("#from"), "10.244.9.9"+kb.Enter))
	b.Sees("pod 10.244.9.9 dials 10.96.0.1:80")
	b.Clean()
}

func TestServicesByTheKeyboard(t *testing.T) {
	_, b := opened(t, 500)
	b.GoTo("/services")
	b.Sees("500 Services")
	b.Until("document.querySelector('tbody a')?.innerText === 'shop/web'") // the busiest
	press := func(keys ...string) {
		for _, key := range keys {
			b.Do(chromedp.KeyEvent(key))
		}
	}
	focused := "document.activeElement.closest('tr')?.getAttribute('aria-rowindex')"

	browser.Eval[bool](b, "(document.querySelector('tbody a').focus(), true)")
	press(kb.ArrowDown, kb.ArrowDown)
	b.Until(focused + " === '4'")
	press(kb.End)
	b.Until(focused + " === '501'")
	press(kb.Home)
	b.Until(focused + " === '2'")
	if !browser.Eval[bool](b, "getComputedStyle(document.activeElement).outlineStyle !== 'none'") {
		t.Error("the focus cannot be seen")
	}

	b.Do(chromedp.SendKeys(chromedp.CSS("#filter"), "ledger-11"))
	b.Sees("2 of 500 Services") // ledger-11 and ledger-115; the others have another word
	press(kb.Escape)
	b.Sees("500 Services")
	browser.Eval[bool](b, "([...document.querySelectorAll('th button')].find(e => e.innerText === 'Service').focus(), true)")
	press(kb.Enter)
	b.Until("document.querySelector('th[aria-sort=ascending]')?.innerText.startsWith('Service')")
	b.Until("document.querySelector('tbody a').innerText.startsWith('shop/<script>')")
	browser.Eval[bool](b, "(document.querySelector('tbody a').focus(), true)")
	press(kb.ArrowDown, kb.Enter)
	b.Until("location.hash === '#/service/shop/orphan' && document.activeElement.id === 'main'")
	b.Clean()
}

func TestSkippingTheNavigation(t *testing.T) {
	_, b := opened(t, 3)
	b.Sees("Overview")
	b.Do(chromedp.KeyEvent(kb.Tab))
	b.Until("document.activeElement.id === 'skip'")
	b.Do(chromedp.KeyEvent(kb.Enter))
	b.Until("document.activeElement.id === 'main'")
}

func TestARecord(t *testing.T) {
	_, b := opened(t, 5)
	b.GoTo("/flows")
	b.Sees("3 lost")
	b.Do(chromedp.Click(chromedp.CSS("input[name=errors]")))
	b.Until("document.querySelectorAll('tbody tr.trouble').length > 3 && !document.querySelector('tbody tr:not(.trouble, .gap)')")
	b.Until("location.hash === '#/flows?errors=true'")
	browser.Eval[bool](b, "([...document.querySelectorAll('button')].find(e => e.innerText === 'Pause').click(), true)")
	b.Sees("new")
	const row = "[...document.querySelectorAll('tbody tr')].find(e => e.innerText.includes('backend_reset')).querySelector('button')"
	browser.Eval[bool](b, "("+row+".focus(), true)")
	b.Do(chromedp.KeyEvent(kb.Enter))
	b.Until("document.querySelector('dialog[open]')")
	told := browser.Eval[string](b, "document.querySelector('dialog').textContent")
	for _, want := range []string{"after 1 failed attempt on", "backend_refused (ECONNREFUSED)", "ECONNREFUSED after", "endpoint: RST", "RST to the client", "the endpoint, after data could pass"} {
		if !strings.Contains(told, want) {
			t.Errorf("the dialog says nothing of %q: %s", want, told)
		}
	}
	b.Do(chromedp.KeyEvent(kb.Escape))
	b.Until("!document.querySelector('dialog') && document.activeElement === " + row)
	b.Clean()
}

// usher says what is wrong with a filter, and the page passes that on.
func TestAFilterThatIsNone(t *testing.T) {
	_, b := opened(t, 5)
	b.GoTo("/flows?reason=nonsense")
	b.Sees(`want one of: ok, client_reset`)
}

func TestAConnection(t *testing.T) {
	_, b := opened(t, 5)
	b.GoTo("/connections")
	b.Sees("240 connections")
	b.Do(chromedp.Click(chromedp.CSS("tbody button")))
	b.Sees("Towards the client (TCP_INFO)")
	b.Do(chromedp.KeyEvent(kb.Escape))
	b.Until("!document.querySelector('dialog')")
	b.Clean()
}

func TestWhereNothingIs(t *testing.T) {
	f := newFake(t, 0)
	f.quiet, f.bind = true, true
	f.start(t)
	b := open(t, f.socket)
	for hash, said := range map[string]string{
		"/overview":          "Nothing. No Service is without a usable endpoint",
		"/services":          "No Services are served",
		"/flows":             "No flows yet: nothing has connected since usher began 3 min ago",
		"/flows?errors=true": "No flow fits the filters",
		"/map":               "Nobody has talked to a Service",
		"/connections":       "No connection is open now",
		"/rules":             "There are no packet filter rules",
		"/service/shop/gone": "usher does not serve this Service",
	} {
		b.GoTo(hash)
		b.Sees(said)
	}
	b.Clean()
}

// The page says when usher is away, and goes on by itself when it is back.
func TestUsherGoesAndComes(t *testing.T) {
	f, b := opened(t, 5)
	b.GoTo("/flows")
	b.Sees("no_endpoints")
	f.stop()
	b.Sees("No data: usher cannot be reached")
	f.started = time.Now()
	f.start(t)
	b.Sees("usher has restarted")
	before := browser.Eval[int](b, "document.querySelectorAll('tbody button').length")
	if before == 0 {
		t.Error("the flows from before are gone")
	}
	b.Until("!document.body.innerText.includes('No data')")
	b.GoTo("/services")
	b.Sees("shop/web")
	b.Forgive() // the browser reports every 502
}

func TestThePageEnds(t *testing.T) {
	f := newFake(t, 5)
	f.start(t)
	p, end := serveUntil(t, f.socket)
	b := browser.Open(t, p.URL())
	b.Sees("17 connections were refused")
	end()
	b.Sees("usher ui does not answer any more")
}

// Nobody looks at a hidden page, which then asks nothing.
func TestAHiddenPage(t *testing.T) {
	_, b := opened(t, 5)
	b.Sees("17 connections were refused")
	browser.Eval[bool](b, `(window.slowly = window.setTimeout, window.setTimeout = (f, ms) => window.slowly(f, ms / 20), true)`)
	browser.Eval[bool](b, `(window.asked = 0, window.real = window.fetch, window.fetch = (...a) => { window.asked++; return window.real(...a); }, true)`)
	b.Until("asked > 2")
	browser.Eval[bool](b, `(Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }), document.dispatchEvent(new Event('visibilitychange')), window.asked = 0, true)`)
	time.Sleep(time.Second) // ten periods of its quick clock, in which it would have asked
	if n := browser.Eval[int](b, "asked"); n > 0 {
		t.Errorf("a hidden page has asked %d times", n)
	}
	browser.Eval[bool](b, `(delete document.hidden, document.dispatchEvent(new Event('visibilitychange')), true)`)
	b.Until("asked > 2")
}

func TestTheTheme(t *testing.T) {
	_, b := opened(t, 3)
	b.Sees("Overview")
	ground := func() string { return browser.Eval[string](b, "getComputedStyle(document.body).backgroundColor") }
	b.Dark(false)
	light := ground()
	b.Dark(true)
	dark := ground()
	if light == dark {
		t.Fatalf("both are %s", light)
	}
	b.Do(chromedp.Click(chromedp.CSS("#theme"))) // from auto to light
	if got := ground(); got != light {
		t.Errorf("light is %s, want %s", got, light)
	}
	b.Do(chromedp.Reload())
	b.Sees("Overview")
	if got := ground(); got != light {
		t.Errorf("after loading again light is %s, want %s", got, light)
	}
	b.Clean()
}

// Every colour of text has the contrast of WCAG 2.2 AA, 4.5 to 1, on what is behind it.
func TestContrast(t *testing.T) {
	_, b := opened(t, 5)
	for _, dark := range []bool{false, true} {
		b.Dark(dark)
		for _, v := range views {
			b.GoTo(v.hash)
			b.Sees(v.sees)
			if weak := browser.Eval[string](b, weakest); weak != "" {
				t.Errorf("%s, dark %v: %s", v.name, dark, weak)
			}
		}
	}
}

const weakest = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return c.startsWith('color(srgb') ? [...m.slice(0, 3).map(v => v * 255), m[3] ?? 1] : [...m.slice(0, 3), m[3] ?? 1]; };
	const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const behind = e => { const stack = []; for (; e; e = e.parentElement) stack.push(parse(getComputedStyle(e).backgroundColor)); return stack.reverse().reduce((under, c) => over(c, under), [255, 255, 255, 1]); };
	const weak = new Set();
	for (const e of document.querySelectorAll('body *')) {
		if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
		const style = getComputedStyle(e), back = e.closest('svg') ? behind(e.closest('svg').parentElement) : behind(e);
		const front = over(parse(e.closest('svg') ? style.fill : style.color), back);
		const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) weak.add(e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + ((a + 0.05) / (b + 0.05)).toFixed(2) + ' ' + e.textContent.slice(0, 30));
	}
	return [...weak].join('; ');
})()`

// 10,000 Services are painted soon, and scrolled without the page standing still.
func TestManyServices(t *testing.T) {
	_, b := opened(t, 10000)
	b.Sees("17 connections were refused")
	took := browser.Eval[float64](b, `new Promise(done => {
		const began = performance.now();
		location.hash = '/services';
		const look = () => document.querySelector('tbody a') ? requestAnimationFrame(() => done(performance.now() - began)) : requestAnimationFrame(look);
		look();
	})`)
	b.Sees("10,000 Services")
	if n := browser.Eval[int](b, "document.querySelectorAll('tbody tr').length"); n > 100 {
		t.Errorf("%d rows are elements", n)
	}
	longest := browser.Eval[float64](b, `new Promise(done => {
		const grid = document.querySelector('.grid');
		let last = performance.now(), longest = 0, steps = 0;
		const step = now => {
			longest = Math.max(longest, now - last);
			last = now;
			grid.scrollTop += 1800;
			if (++steps < 200) requestAnimationFrame(step); else done(longest);
		};
		requestAnimationFrame(step);
	})`)
	b.Until("[...document.querySelectorAll('tbody tr[aria-rowindex]')].some(e => Number(e.getAttribute('aria-rowindex')) > 9000)")
	t.Logf("10,000 Services: painted after %.0f ms; scrolling through them, the longest frame took %.0f ms", took, longest)
	if took > 20000 || longest > 10000 { // far more than it takes: the machine may be busy
		t.Errorf("painted after %.0f ms, longest frame %.0f ms", took, longest)
	}
	b.Clean()
}
