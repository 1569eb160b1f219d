#compdef arcsm
# Completion for zsh:  eval "$(_ARCSM_COMPLETE=source_zsh arcsm)", after compinit
_arcsm() {
    local kind value help files=0
    local -a whole told open
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            w) whole+=("$value"); told+=("$value${help:+  -- $help}") ;;
            p) open+=("$value") ;;
            F) files=1 ;;
        esac
    done < <(_ARCSM_COMPLETE=zsh $words[1] "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( $#whole )) && compadd -l -d told -a whole
    (( $#open )) && compadd -S '' -a open
    if (( files )); then
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _arcsm "$@"
else
    compdef _arcsm arcsm
fi
