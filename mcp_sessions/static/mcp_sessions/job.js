// Goes on with a job while its page is open, and shows how far it has come. Without it, "Go on" does the same.
(() => {
    "use strict";
    const form = document.getElementById("mcp-job");
    if (!form || !("auto" in form.dataset)) return;
    const show = (id, text) => { document.getElementById(id).textContent = text; };
    const number = new Intl.NumberFormat(document.documentElement.lang || undefined);

    const step = async () => {
        const body = new FormData(form);
        body.set("act", "step");
        let wait = 250;
        try {
            const response = await fetch(location.href, {
                method: "POST", body, headers: {Accept: "application/json"}, credentials: "same-origin",
            });
            if (!response.ok) throw new Error(form.dataset.refused.replace("%s", response.status));
            const job = await response.json();
            if (job.state !== "running" && job.state !== "stopping") {
                location.reload();
                return;
            }
            show("mcp-ended", number.format(job.ended));
            show("mcp-gone", number.format(job.gone));
            // Nobody had counted if the store was away when the job began.
            show("mcp-expected", number.format(job.expected));
            const progress = document.getElementById("mcp-progress");
            progress.max = job.expected || 1;
            progress.value = job.ended;
            show("mcp-problem", job.problem);
            document.getElementById("mcp-problem").hidden = !job.problem;
            if (job.problem) wait = 3000;
        } catch (error) {
            show("mcp-problem", `${error.message} ${form.dataset.again}`);
            document.getElementById("mcp-problem").hidden = false;
            wait = 3000;
        }
        setTimeout(step, wait);
    };
    setTimeout(step, 250);
})();
