// Chooses light or dark before anything is painted. Nothing chosen: as the system has it.
'use strict';
try {
  const chosen = localStorage.getItem('usher-theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch { /* no storage, no choice */ }
