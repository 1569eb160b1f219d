// The site's search leaves out words with a leading dash: whoever looks for "--resume" is to find it.
document.addEventListener(
  "input",
  ({ target }) => {
    if (target.matches(".md-search__input") && /(^|\s)-+\w/.test(target.value))
      target.value = target.value.replace(/(^|\s)-+(?=\w)/g, "$1");
  },
  true,
);
